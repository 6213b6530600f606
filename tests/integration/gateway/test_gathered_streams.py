"""Quick streams that are read now and then, where `gather_stream_s` asks for it."""

import asyncio

import pytest

from ownward.engines import Cut, FakeOptions, FakeServer, OutputLength
from ownward.gateway import GatewaySettings

WORDS = OutputLength.parse("60")


def settings(gather_stream_s):
    return GatewaySettings(port=0, drain_s=2, gather_stream_s=gather_stream_s)


async def stream_of(lab, start, options, *, gather_stream_s):
    async with FakeServer(options) as fake:
        plan = lab.plan_of(lab.tier("a", fake.base_url))
        async with start(plan, settings=settings(gather_stream_s)) as running:
            answer = await running.ask(body=lab.chat(stream=True))
            return answer, await running.rows()


def test_a_quick_stream_arrives_whole_in_few_pieces(lab, start):
    async def main():
        options = FakeOptions(tpot_s=0.004, output_tokens=WORDS)
        gathered, (row,) = await stream_of(lab, start, options, gather_stream_s=0.05)
        assert gathered.body.count(b"data: {") >= 60
        assert gathered.body.endswith(b"data: [DONE]\n\n")
        assert len(gathered.pieces) < 20
        assert (row["state"], row["output_tokens"]) == ("settled", 60)

    asyncio.run(main())


def test_a_slow_stream_goes_on_piece_by_piece(lab, start):
    async def main():
        options = FakeOptions(tpot_s=0.03, output_tokens=OutputLength.parse("12"))
        answer, _ = await stream_of(lab, start, options, gather_stream_s=0.01)
        assert len(answer.pieces) >= 12

    asyncio.run(main())


@pytest.mark.parametrize("events", [1, 7])
def test_a_quick_stream_that_is_cut_says_so_and_nothing_before_it_is_lost(lab, start, events):
    async def main():
        options = FakeOptions(tpot_s=0.002, output_tokens=WORDS, cuts=(Cut.parse(str(events)),))
        answer, (row,) = await stream_of(lab, start, options, gather_stream_s=0.05)
        assert answer.body.count(b'"content":"') + answer.body.count(b'"content": "') >= events
        assert b'"error"' in answer.body
        assert row["state"] == "unsettled"

    asyncio.run(main())
