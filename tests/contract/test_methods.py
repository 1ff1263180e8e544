"""Every method that the contract promises is one that its service has: none is left to answer UNIMPLEMENTED."""

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_every_method_of_its_contract(service: str) -> None:
    module = import_module(f"cairn_{service.replace('-', '_')}.rpc")
    [rpc] = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and kind.__name__.endswith("Rpc")
    ]
    promised = {name for base in rpc.__bases__ for name in vars(base) if not name.startswith("_")}
    assert promised, "the contract has methods"
    assert promised <= vars(rpc).keys()
