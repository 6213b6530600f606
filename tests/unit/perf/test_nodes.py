"""Laws of several nodes and of pools apart: a network only costs, and no pool gives more than it can."""

from typing import Any

import pytest

from ownward import anatomy, catalog
from ownward.core import BadInput
from ownward.perf import (
    Case,
    Deployment,
    Load,
    Network,
    communication_s,
    deploy,
    predict,
    read_network,
    serve_disaggregated,
    serve_together,
    transfer_s,
)

_FAST = Network(bytes_per_s=1e18, latency_s=0.0)
_RELEASE = catalog.model("llama-3.1-70b")
_MODEL = anatomy.from_config(_RELEASE.load_config(), name=_RELEASE.name)


def _deployed(**asked: Any) -> Deployment:
    asked = {"machines_count": 4, "tensor_parallel": 4} | asked
    made = deploy(_MODEL, machine=catalog.machine("H100 SXM"), engine="vllm", weights="fp8", **asked)
    assert isinstance(made, Deployment)
    return made


def _load(prompt: int = 4000, **asked: Any) -> Load:
    return Load(_deployed(**asked), prompt, 200, 0, None)


def _throughput(**asked: Any) -> float:
    case = Case(
        id="a", anatomy=_MODEL, machine=catalog.machine("H100 SXM"), engine="vllm", weights="bf16", concurrency=32,
        input_tokens=1000, output_tokens=200, metric="decode_tok_s_total", **asked,
    )  # fmt: skip
    value = predict(case).value
    assert value is not None
    return value


@pytest.mark.parametrize("arrangement", [{"tensor_parallel": 16}, {"tensor_parallel": 8, "pipeline_parallel": 2}, {}])
def test_a_slower_network_gives_less_and_none_gives_more_than_one_node(arrangement: dict[str, int]) -> None:
    rates = [
        _throughput(machines_count=16, nodes=2, network=Network(rate, 2e-5), **arrangement)
        for rate in (1e8, 1e9, 1e10, 1e11)
    ]
    assert rates == sorted(rates)
    if arrangement:
        assert rates[-1] <= _throughput(machines_count=16, **arrangement) * 1.001


def test_sharing_layers_over_a_slow_network_is_worse_than_taking_turns() -> None:
    slow = read_network("ethernet 10")
    assert _throughput(machines_count=16, nodes=2, network=slow) > _throughput(
        machines_count=16, nodes=2, network=slow, tensor_parallel=16
    )


def test_a_network_without_cost_leaves_what_devices_of_a_node_pay() -> None:
    asked: dict[str, Any] = {
        "family": "hopper", "tokens": 256.0, "hidden": 8192, "layers": 80, "expert_layers": 0, "copies": 1,
        "reduce_s": 1e-5, "attention_data_parallel": False,
    }  # fmt: skip
    two_nodes = communication_s(devices=16, nodes=2, network=_FAST, **asked)
    assert two_nodes == pytest.approx(communication_s(devices=8, **asked))


def test_devices_that_do_not_divide_into_nodes_are_refused() -> None:
    case = Case(id="a", anatomy=_MODEL, machine=catalog.machine("H100 SXM"), machines_count=9, nodes=2, engine="vllm")
    assert "nodes" in str(predict(case).refused)


def test_networks_are_named_as_people_do() -> None:
    assert read_network("InfiniBand 400 Gb/s") == read_network(None)
    assert read_network(25) == read_network("ethernet 25")
    assert read_network("ethernet 25").bytes_per_s < read_network("roce 25").bytes_per_s
    with pytest.raises(BadInput):
        read_network("two cans and a string")


def test_decoding_apart_takes_what_decoding_alone_does() -> None:
    """With prompts read elsewhere and caches there at once, a token takes a step of its batch."""
    load = _load()
    served = serve_disaggregated(load, _FAST, prefill_replicas=1000, concurrency=32)
    assert served.tpot_s == pytest.approx(load.congestion(32) * load.token_s(32), rel=0.05)
    together = serve_together(load.deployment, concurrency=32, input_tokens=4000, output_tokens=200)
    assert served.tpot_s < together.tpot_s


@pytest.mark.parametrize("users", [1, 16, 256, 2048])
@pytest.mark.parametrize("readers", [1, 4])
@pytest.mark.parametrize("bytes_per_s", [1e8, 5e10])
def test_neither_pool_nor_the_links_give_more_than_they_can(users: int, readers: int, bytes_per_s: float) -> None:
    load, network = _load(), Network(bytes_per_s, 1e-5)
    served = serve_disaggregated(load, network, prefill_replicas=readers, decode_replicas=2, concurrency=users)
    answers_per_s = served.output_tokens_per_s / 200
    assert answers_per_s <= readers / load.alone_s * 1.001
    assert answers_per_s <= min(readers, 2) / transfer_s(load, network) * 1.001


@pytest.mark.parametrize("users", [4, 64, 1024])
def test_users_of_both_pools_obey_littles_law(users: int) -> None:
    load = _load()
    served = serve_disaggregated(load, read_network(None), prefill_replicas=2, concurrency=users)
    latency_s = served.ttft_s + load.decoded_tokens * served.tpot_s
    assert served.output_tokens_per_s / 200 * latency_s == pytest.approx(users, rel=0.15)


def test_a_longer_prompt_takes_longer_to_send() -> None:
    network = read_network(None)
    assert transfer_s(_load(prompt=8000), network) > 1.9 * transfer_s(_load(prompt=4000), network)


def test_arrivals_beyond_what_is_read_are_not_answered() -> None:
    load = _load()
    read_rate = 2 / load.alone_s
    kept, over = (
        serve_disaggregated(load, _FAST, prefill_replicas=2, decode_replicas=4, arrivals_per_s=share * read_rate)
        for share in (0.5, 3)
    )
    assert kept.output_tokens_per_s == pytest.approx(0.5 * read_rate * 200, rel=0.01)
    assert over.output_tokens_per_s <= read_rate * 200 * 1.001
    assert over.ttft_s > kept.ttft_s
