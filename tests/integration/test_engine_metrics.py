"""What `GET /metrics` says of the embedded engine's memory: a model with random weights, a real host, real KV."""

from pathlib import Path

from tests.integration.server.test_metrics import Samples, scrape
from tests.support.live_server import final_response, live_server, open_socket
from tests.support.random_gguf import write_random_gguf

from hotloop.app import start_model
from hotloop.config import ModelSettings

KV_BYTES_PER_TOKEN = 2 * 2 * 64 * 2  # keys and values of two layers, each 64 numbers of 16 bits
PARKED = (("cache", "parked_kv"),)


def cells(samples: Samples) -> tuple[float, float]:
    """In use, and all there are."""
    used, total = samples["hotloop:kv_cache_used_cells", ()], samples["hotloop:kv_cache_cells", ()]
    assert samples["hotloop:kv_cache_usage_perc", ()] == used / total
    return used, total


def parked(samples: Samples) -> tuple[float, float]:
    """Bytes, and pieces."""
    return samples["hotloop:cache_bytes", PARKED], samples["hotloop:cache_entries", PARKED]


async def test_cells_in_use_and_bytes_that_are_parked_are_those_of_the_engine(tmp_path: Path) -> None:
    model = await start_model(ModelSettings(path=write_random_gguf(tmp_path / "model.gguf"), sequences=1, threads=1))
    async with live_server(model) as server, open_socket(server) as socket:
        samples = await scrape(server)
        assert (cells(samples), parked(samples)) == ((0, 32768), (0, 0))
        parked_tokens, held = 0, 0
        for lane in range(3):
            events = await socket.turn(
                model="random", store=False, stream_id=f"lane-{lane}", input=f"Number {lane}.", max_output_tokens=5
            )
            parked_tokens += held  # there is one sequence: the chain before has left it
            held = final_response(events)["usage"]["total_tokens"] - 1  # nobody needs the KV of the last one
            samples = await scrape(server)
            assert cells(samples) == (held, 32768)
            size, pieces = parked(samples)
            assert pieces == lane
            assert parked_tokens * KV_BYTES_PER_TOKEN <= size <= 1.3 * parked_tokens * KV_BYTES_PER_TOKEN


async def test_where_nothing_is_parked_no_bytes_are(tmp_path: Path) -> None:
    path = write_random_gguf(tmp_path / "model.gguf")
    model = await start_model(ModelSettings(path=path, sequences=1, threads=1, parked_kv_bytes=0))
    async with live_server(model) as server, open_socket(server) as socket:
        for lane in range(2):
            await socket.turn(
                model="random", store=False, stream_id=f"lane-{lane}", input=f"Number {lane}.", max_output_tokens=5
            )
        assert parked(await scrape(server)) == (0, 0)
