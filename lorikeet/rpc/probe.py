"""`python -m lorikeet.rpc.probe HOST:PORT`: exit status 0 when a service says it is serving.

For container health checks: light, and without credentials.
"""

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lorikeet.rpc.tls import TlsFilesError, channel_credentials


def health_of(channel: grpc.Channel, seconds: float) -> str:
    """SERVING, NOT_SERVING, …; or why there is no answer."""
    try:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=seconds)
    except grpc.RpcError as error:
        code = error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"
        return f"no answer ({code})"
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name


def main() -> int:
    """Prints the health; 0 for SERVING, 1 for any other, 2 for unusable arguments."""
    parser = argparse.ArgumentParser(prog="python -m lorikeet.rpc.probe", description=__doc__)
    parser.add_argument("address", help="host:port")
    parser.add_argument("--tls-ca", type=Path, help="PEM authorities; turns TLS on")
    parser.add_argument("--tls-cert", type=Path, help="PEM certificate to show; turns TLS on")
    parser.add_argument("--tls-key", type=Path, help="its PEM key")
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    files = (arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
    try:
        credentials = channel_credentials(*files) if any(files) else None
    except TlsFilesError as error:
        print(error, file=sys.stderr)
        return 2
    with (
        grpc.secure_channel(arguments.address, credentials)
        if credentials
        else grpc.insecure_channel(arguments.address)
    ) as channel:
        health = health_of(channel, arguments.seconds)
    print(health)
    return 0 if health == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main())
