"""Headers of GGUF and safetensors files, against the packages that write them, and lying ones."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from ownward import anatomy
from ownward.anatomy.quantization import GGML_BLOCKS
from ownward.anatomy.tensors import FileSource, read_gguf, read_safetensors
from ownward.core import BadInput, OwnwardError, UnknownQuantization


def write_gguf(path: Path, *, architecture: str = "llama", splits: int = 0, big_endian: bool = False) -> Path:
    endian = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, architecture, endianess=endian, split_max_tensors=splits)
    writer.add_block_count(2)
    writer.add_context_length(4096)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_token_list([f"token{number}" for number in range(100)])
    rng = np.random.default_rng(1)
    for name, shape in [
        ("token_embd.weight", (100, 64)),
        *[
            (f"blk.{layer}.{part}.weight", shape)
            for layer in range(2)
            for part, shape in [
                ("attn_norm", (64,)),
                ("attn_q", (64, 64)),
                ("attn_k", (32, 64)),
                ("attn_v", (32, 64)),
                ("attn_output", (64, 64)),
                ("ffn_norm", (64,)),
                ("ffn_up", (128, 64)),
                ("ffn_gate", (128, 64)),
                ("ffn_down", (64, 128)),
            ]
        ],
        ("output_norm.weight", (64,)),
    ]:
        writer.add_tensor(name, rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


ELEMENTS = 100 * 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128) + 64


def test_gguf_agrees_with_the_package_that_wrote_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    theirs = {(tensor.name, int(tensor.n_bytes)) for tensor in gguf.GGUFReader(path).tensors}
    ours = read_gguf(FileSource(path))
    assert {(tensor.name, tensor.bytes) for tensor in ours.tensors} == theirs
    found = anatomy.read(path)
    assert found.total_live_params == ELEMENTS
    assert found.weights_bytes() == 4 * ELEMENTS
    assert found.kv_bytes_per_token_bf16 == 2 * 2 * 2 * 16 * 2
    assert found.max_context_tokens == 4096


def test_the_other_byte_order_is_read_alike(tmp_path: Path) -> None:
    assert anatomy.read(write_gguf(tmp_path / "big.gguf", big_endian=True)).total_live_params == ELEMENTS


def test_version_2_is_read_alike(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "old.gguf")
    raw = bytearray(path.read_bytes())
    raw[4:8] = struct.pack("<I", 2)
    path.write_bytes(raw)
    assert anatomy.read(path).total_live_params == ELEMENTS


def test_splits_are_read_as_one_from_any_of_them(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", splits=6)
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) > 2
    assert {anatomy.read(part).total_live_params for part in parts} == {ELEMENTS}
    parts[1].unlink()
    with pytest.raises(BadInput, match=r"1 of .* splits are missing"):
        anatomy.read(parts[0])


def test_a_split_that_is_another_one_again_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", splits=6)
    parts = sorted(tmp_path.glob("*.gguf"))
    parts[1].unlink()
    parts[1].symlink_to(parts[0])
    with pytest.raises(BadInput, match="by its header"):
        anatomy.read(parts[0])


def test_every_tensor_type_has_the_block_of_the_reference() -> None:
    for kind, (values, size) in gguf.GGML_QUANT_SIZES.items():
        assert GGML_BLOCKS[kind.name.lower()] == (values, size)


def write_mixture(path: Path, architecture: str, tensors: dict[str, tuple[int, ...]], **keys: int) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {"block_count": 1, "context_length": 4096, "embedding_length": 64, **keys}.items():
        writer.add_uint32(f"{architecture}.{key.replace('__', '.')}", value)
    for name, shape in tensors.items():
        writer.add_tensor(name, np.zeros(shape, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_experts_of_a_gguf_file_are_counted_by_their_last_side(tmp_path: Path) -> None:
    path = write_mixture(
        tmp_path / "moe.gguf",
        "qwen3moe",
        {
            "token_embd.weight": (100, 64),
            "output.weight": (100, 64),
            "blk.0.attn_q.weight": (64, 64),
            "blk.0.attn_k.weight": (32, 64),
            "blk.0.attn_v.weight": (32, 64),
            "blk.0.attn_q_norm.weight": (16,),
            "blk.0.ffn_gate_inp.weight": (8, 64),
            "blk.0.ffn_up_exps.weight": (8, 32, 64),
            "blk.0.ffn_down_exps.weight": (8, 64, 32),
            "blk.0.ffn_up_shexp.weight": (32, 64),
        },
        expert_used_count=2,
        attention__head_count=4,
        attention__head_count_kv=2,
        attention__key_length=16,
    )
    found = anatomy.read(path)
    assert (found.experts, found.experts_per_tok, found.moe_layers) == (8, 2, 1)
    assert found.routed_experts == 2 * 8 * 32 * 64
    assert found.shared_experts == 32 * 64
    assert found.router == 8 * 64
    assert found.attention == 64 * 64 + 2 * 32 * 64 + 16
    assert found.active_params_per_token == found.total_live_params - 6 * 2 * 32 * 64
    assert found.kv_bytes(10) == 10 * 2 * 2 * 16 * 2


def test_a_latent_cache_is_read_from_gguf_metadata(tmp_path: Path) -> None:
    path = write_mixture(
        tmp_path / "mla.gguf",
        "deepseek2",
        {"token_embd.weight": (100, 64), "blk.0.attn_kv_a_mqa.weight": (96, 64), "blk.0.attn_q.weight": (64, 64)},
        attention__head_count=4,
        attention__head_count_kv=1,
        attention__kv_lora_rank=64,
        rope__dimension_count=32,
    )
    assert anatomy.read(path).kv_bytes_per_token_bf16 == 2 * (64 + 32)


def test_a_recurrent_state_is_read_from_gguf_metadata(tmp_path: Path) -> None:
    path = write_mixture(
        tmp_path / "ssm.gguf",
        "mamba2",
        {"token_embd.weight": (100, 64), "blk.0.ssm_conv1d.weight": (160, 4), "blk.0.ssm_in.weight": (200, 64)},
        ssm__inner_size=128,
        ssm__state_size=16,
    )
    found = anatomy.read(path)
    assert found.recurrent_state_bytes_per_seq == 4 * 128 * 16 + 2 * 160 * 3
    assert found.kv_bytes_per_token_bf16 == 0


def test_an_unknown_kind_of_gguf_layer_is_counted_and_its_cache_is_not_guessed(tmp_path: Path) -> None:
    path = write_mixture(
        tmp_path / "rwkv.gguf",
        "rwkv9",
        {"token_embd.weight": (100, 64), "blk.0.time_mix_w1.weight": (64, 64)},
    )
    found = anatomy.read(path)
    assert found.total_live_params == 100 * 64 + 64 * 64
    assert found.unsupported == ("cache",)


def test_an_unknown_tensor_type_is_refused_by_number(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    raw = path.read_bytes()
    place = raw.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 16
    path.write_bytes(raw[:place] + struct.pack("<I", 99) + raw[place + 4 :])
    with pytest.raises(UnknownQuantization, match="type 99"):
        anatomy.read(path)


def safetensors_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "model.embed_tokens.weight": rng.normal(size=(10, 8)).astype(np.float16),
        "model.layers.0.self_attn.q_proj.weight": rng.normal(size=(8, 8)).astype(np.float32),
        "model.layers.0.mlp.experts.0.up_proj.weight": rng.normal(size=(4, 8)).astype(np.float16),
        "model.layers.0.mlp.experts.1.up_proj.weight": rng.normal(size=(4, 8)).astype(np.float16),
        "model.norm.weight": rng.normal(size=(8,)).astype(np.float16),
    }


def test_safetensors_agree_with_the_package_that_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = safetensors_tensors()
    save_file(tensors, path)
    assert {t.name: (t.shape, t.bytes) for t in read_safetensors(FileSource(path))} == {
        name: (tensor.shape, tensor.nbytes) for name, tensor in tensors.items()
    }
    found = anatomy.read(path)
    assert found.total_live_params == sum(tensor.size for tensor in tensors.values())
    assert found.weights_bytes() == sum(tensor.nbytes for tensor in tensors.values())
    assert found.routed_experts == 64
    assert found.experts == 2
    assert found.tied_embeddings


@pytest.mark.parametrize(("stored", "is_narrowed"), [(np.float32, True), (np.float16, False)])
def test_safetensors_in_32_bits_have_16_in_bf16_and_are_loaded_so(
    tmp_path: Path, stored: type[np.floating], is_narrowed: bool
) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {name: tensor.astype(stored) for name, tensor in safetensors_tensors().items()}
    save_file(tensors, path)
    found = anatomy.read(path)
    assert found.weights_bytes() == sum(tensor.nbytes for tensor in tensors.values())
    assert found.weights_bytes("bf16") == 2 * found.total_live_params
    assert found.is_narrowed_on_load == is_narrowed


def test_a_gguf_in_32_bits_is_loaded_as_it_is(tmp_path: Path) -> None:
    found = anatomy.read(write_gguf(tmp_path / "model.gguf"))
    assert found.weights_bytes() == 4 * ELEMENTS == 2 * found.weights_bytes("bf16")
    assert not found.is_narrowed_on_load


def test_what_tensors_do_not_tell_is_null_and_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(safetensors_tensors(), path)
    found = anatomy.read(path)
    contract = anatomy.as_contract(found)
    assert contract["unsupported"] == ["cache", "active"]
    assert contract["kv_bytes_per_token_bf16"] is None
    assert contract["active_params_per_token"] is None
    with pytest.raises(OwnwardError, match=r"config\.json"):
        found.kv_bytes(100)


def write_index(folder: Path, *, files: int = 3) -> Path:
    tensors = safetensors_tensors()
    weight_map = {}
    for number, (name, tensor) in enumerate(tensors.items()):
        file = f"model-{number % files + 1:05d}-of-{files:05d}.safetensors"
        weight_map[name] = file
        mates = {other: t for at, (other, t) in enumerate(tensors.items()) if at % files == number % files}
        save_file(mates, folder / file)
        _ = tensor
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def test_an_index_is_the_sum_of_its_files(tmp_path: Path) -> None:
    found = anatomy.read(write_index(tmp_path))
    assert found.total_live_params == sum(tensor.size for tensor in safetensors_tensors().values())


def test_a_config_beside_lends_what_tensors_do_not_tell(tmp_path: Path) -> None:
    index = write_index(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "qwen3_moe", "num_hidden_layers": 1, "num_experts": 2, "num_experts_per_tok": 1})
    )
    found = anatomy.read(index)
    assert found.architecture == "qwen3_moe"
    assert found.experts_per_tok == 1
    assert found.kv_bytes(10) > 0


@pytest.mark.parametrize(
    "file", ["../secret.safetensors", "/etc/passwd", "model.safetensors.index.json", "missing.safetensors"]
)
def test_an_index_that_points_elsewhere_or_at_itself_is_refused(tmp_path: Path, file: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": file}}))
    with pytest.raises(BadInput):
        anatomy.read(index)


def test_packed_integers_without_a_config_are_refused_and_with_one_counted(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(
        {
            "model.layers.0.mlp.up_proj.qweight": np.zeros((8, 16), np.int32),
            "model.layers.0.mlp.up_proj.scales": np.zeros((1, 16), np.float16),
        },
        path,
    )
    with pytest.raises(UnknownQuantization, match="packs integers"):
        anatomy.read(path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "unheard_of", "quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    assert anatomy.read(path).total_live_params == 64 * 16


def huge_header() -> bytes:
    return struct.pack("<Q", 2**60) + b"{}"


def deep_header() -> bytes:
    text = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    return struct.pack("<Q", len(text)) + text


def overlapping() -> bytes:
    text = json.dumps(
        {
            "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
            "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
        }
    ).encode()
    return struct.pack("<Q", len(text)) + text + bytes(24)


def gguf_claiming(tensors: int, keys: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + rest


def long_text() -> bytes:
    return gguf_claiming(0, 1, struct.pack("<Q", 2**62) + bytes(64))


def endless_array() -> bytes:
    key = struct.pack("<Q", 1) + b"k"
    return gguf_claiming(0, 1, key + struct.pack("<IIQ", 9, 8, 2**60) + bytes(64))


def zeros_as_texts() -> bytes:
    key = struct.pack("<Q", 1) + b"k"
    return gguf_claiming(0, 1, key + struct.pack("<IIQ", 9, 8, 4_000_000) + bytes(32_000_000))


def nested_arrays() -> bytes:
    return gguf_claiming(0, 1, struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty.safetensors": lambda: b"",
    "huge.safetensors": huge_header,
    "deep.safetensors": deep_header,
    "overlap.safetensors": overlapping,
    "empty.gguf": lambda: b"",
    "short.gguf": lambda: b"GGUF\x03",
    "tensors.gguf": lambda: gguf_claiming(2**60, 0),
    "keys.gguf": lambda: gguf_claiming(0, 2**60),
    "text.gguf": long_text,
    "array.gguf": endless_array,
    "zeros.gguf": zeros_as_texts,
    "nested.gguf": nested_arrays,
    "vocabulary.gguf": lambda: gguf_claiming(0, 0),
    "deep.json": lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "list.json": lambda: b"[1, 2]",
    "latin.json": lambda: b"\xff\xfe{",
    "index.safetensors.index.json": lambda: b'{"weight_map": {"a": {"b": 1}}}',
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_files_are_refused_quickly_and_in_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HOSTILE[name]())
    anatomy.from_config({"model_type": "llama"})
    start = time.perf_counter()
    with pytest.raises(BadInput) as caught:
        anatomy.read(path)
    taken = time.perf_counter() - start
    tracemalloc.start()
    with pytest.raises(BadInput):
        anatomy.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert name in str(caught.value)
    assert peak < 50e6
    assert taken < 0.5, "0.1 s on an idle core; the benchmark measures it"


def test_every_cut_of_a_gguf_file_is_refused(tmp_path: Path) -> None:
    raw = write_gguf(tmp_path / "whole.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for end in range(0, len(raw) - 1, 997):
        path.write_bytes(raw[:end])
        with pytest.raises(BadInput):
            anatomy.read(path)


@pytest.mark.parametrize("path", ["/nonexistent/config.json", "/", "\0"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(BadInput):
        anatomy.read(path)
