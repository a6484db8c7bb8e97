"""The registry and the engine agree on what an adapter may target, for every family."""

from inference_service.models.families import read_spec
from registry_service.artifacts.base_config import parse_base_config
from tests.models.conftest import Family


def test_the_registry_knows_the_same_modules(family: Family) -> None:
    spec = read_spec(family.model_path)
    _, registered = parse_base_config((family.model_path / "config.json").read_bytes())
    assert {
        path: (shape.in_features, shape.out_features) for path, shape in registered.shapes.items()
    } == {
        spec.module_path(layer, module): spec.module_shape(module)
        for layer in range(spec.num_layers)
        for module in spec.modules
    }
