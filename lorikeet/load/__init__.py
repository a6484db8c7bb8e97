"""Load on an inference service: workloads that are drawn, asked and measured."""
