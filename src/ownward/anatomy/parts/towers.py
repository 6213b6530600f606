"""Vision and audio towers, and the projectors that lead from them into a language model."""

from __future__ import annotations

from ownward.anatomy.blueprint import Weight, Weights, buffer, in_role, matrix, norm, prefixed, table, vector
from ownward.anatomy.fields import Fields
from ownward.anatomy.roles import Role
from ownward.core import BadInput

_TOWER, _PROJECTOR, _AUDIO = Role.VISION_TOWER, Role.VISION_PROJECTOR, Role.AUDIO_TOWER


def repeated(prefix: str, count: int, block: Weights) -> Weights:
    """Return `count` equal blocks under one name: `blocks.{}.`."""
    return tuple(
        weight._replace(name=f"{prefix}{{}}.{weight.name}", copies=weight.copies * count, active=weight.copies * count)
        for weight in block
    )


def biased(name: str, out_features: int, in_features: int, role: Role = _TOWER) -> Weights:
    """Return a linear map with a bias."""
    return matrix(name, out_features, in_features, role, has_bias=True)


def layer_norm(name: str, size: int, role: Role = _TOWER) -> Weights:
    """Return a LayerNorm: scale and shift."""
    return norm(name, size, role, has_bias=True)


def patch_side(fields: Fields, *names: str) -> int:
    """Return the side of a square patch, stated as one number or as two equal ones."""
    value = fields.get(*names)
    if type(value) is list and len(value) == 2 and value[0] == value[1]:  # noqa: PLR2004 - height and width
        value = value[0]
        if type(value) is int and value > 0:
            return value
    return fields.count(*names)


def qwen_vision(fields: Fields) -> Weights:
    """Return the tower of Qwen3-VL and Qwen3.5: a ViT, a merger and deep-stacked mergers."""
    hidden, width = fields.count("hidden_size"), fields.count("intermediate_size")
    patch = (
        fields.count("in_channels"),
        fields.count("temporal_patch_size"),
        patch_side(fields, "patch_size"),
        patch_side(fields, "patch_size"),
    )
    block = (
        *layer_norm("norm1", hidden),
        *layer_norm("norm2", hidden),
        *biased("attn.qkv", 3 * hidden, hidden),
        *biased("attn.proj", hidden, hidden),
        *biased("mlp.linear_fc1", width, hidden),
        *biased("mlp.linear_fc2", hidden, width),
    )
    deep = len(fields.numbers("deepstack_visual_indexes") or ())
    merged = hidden * fields.count("spatial_merge_size") ** 2
    out = fields.count("out_hidden_size")
    return prefixed(
        "model.visual.",
        (
            Weight("patch_embed.proj.weight", (hidden, *patch), _TOWER, "conv"),
            vector("patch_embed.proj.bias", hidden, _TOWER),
            table("pos_embed.weight", fields.count("num_position_embeddings"), hidden, _TOWER),
            *repeated("blocks.", fields.layer_count("depth", "num_hidden_layers"), block),
            *_qwen_merger("merger.", hidden, merged, out, _PROJECTOR),
            *(repeated("deepstack_merger_list.", deep, _qwen_merger("", merged, merged, out, _TOWER)) if deep else ()),
        ),
    )


def _qwen_merger(prefix: str, normed: int, merged: int, out: int, role: Role) -> Weights:
    return (
        *layer_norm(f"{prefix}norm", normed, role),
        *biased(f"{prefix}linear_fc1", merged, merged, role),
        *biased(f"{prefix}linear_fc2", out, merged, role),
    )


def pixtral_vision(fields: Fields) -> Weights:
    """Return Pixtral's tower: a Llama-like ViT with rotary positions and no bias."""
    hidden, width = fields.count("hidden_size"), fields.count("intermediate_size")
    patch = patch_side(fields, "patch_size")
    block = (
        *norm("attention_norm", hidden, _TOWER),
        *matrix("feed_forward.gate_proj", width, hidden, _TOWER),
        *matrix("feed_forward.up_proj", width, hidden, _TOWER),
        *matrix("feed_forward.down_proj", hidden, width, _TOWER),
        *(w for name in "kvq" for w in matrix(f"attention.{name}_proj", hidden, hidden, _TOWER)),
        *matrix("attention.o_proj", hidden, hidden, _TOWER),
        *norm("ffn_norm", hidden, _TOWER),
    )
    return prefixed(
        "model.vision_tower.",
        (
            Weight("patch_conv.weight", (hidden, fields.count("num_channels"), patch, patch), _TOWER, "conv"),
            *norm("ln_pre", hidden, _TOWER),
            *repeated("transformer.layers.", fields.layer_count(), block),
        ),
    )


def llama4_vision(fields: Fields, *, text_hidden: int) -> Weights:
    """Return Llama 4's tower, its pixel-shuffling adapter and the projector."""
    hidden, width = fields.count("hidden_size"), fields.count("intermediate_size")
    patch, image = patch_side(fields, "patch_size"), patch_side(fields, "image_size")
    adapter_in, adapter_out = fields.count("projector_input_dim"), fields.count("projector_output_dim")
    projector_bias = fields.flag("multi_modal_projector_bias", default=False)
    block = (
        *(w for name in "qkvo" for w in biased(f"self_attn.{name}_proj", hidden, hidden)),
        *biased("mlp.fc1", width, hidden),
        *biased("mlp.fc2", hidden, width),
        *layer_norm("input_layernorm", hidden),
        *layer_norm("post_attention_layernorm", hidden),
    )
    positions = (image // patch) ** 2 + 1
    tower = (
        vector("class_embedding", hidden, _TOWER),
        table("positional_embedding_vlm", positions, hidden, _TOWER),
        *matrix("patch_embedding.linear", hidden, fields.count("num_channels") * patch**2, _TOWER),
        *layer_norm("layernorm_pre", hidden),
        *layer_norm("layernorm_post", hidden),
        *repeated("model.layers.", fields.layer_count(), block),
        *matrix("vision_adapter.mlp.fc1", adapter_in, width, _TOWER),
        *matrix("vision_adapter.mlp.fc2", adapter_out, adapter_out, _TOWER),
    )
    projector = matrix(
        "multi_modal_projector.linear_1",
        text_hidden,
        fields.count("vision_output_dim"),
        _PROJECTOR,
        has_bias=projector_bias,
    )
    return (*prefixed("vision_model.", tower), *projector)


def moon_vision(fields: Fields, *, text_hidden: int) -> Weights:
    """Return Kimi's tower (MoonViT with learned positions) and its merging projector.

    Kimi K2.5 normalises with LayerNorm and biases every map; K3 names RMSNorm, no biases
    and a width of its own for attention. Source: transformers kimi_k25; K3's published total.
    """
    hidden, width = (
        fields.count("vt_hidden_size", "hidden_size"),
        fields.count("vt_intermediate_size", "intermediate_size"),
    )
    inner = fields.count("qkv_hidden_size", default=hidden)
    has_shift = fields.text("norm_type", default="layernorm") != "rmsnorm"
    attention_bias = fields.flag("attn_bias", default=True)
    linear_bias = fields.flag("linear_bias", default=True)
    patch_bias = fields.flag("patch_embed_proj_bias", default=True)
    patch = patch_side(fields, "patch_size")
    positions = (fields.count("init_pos_emb_height"), fields.count("init_pos_emb_width"), hidden)
    block = (
        *norm("norm0", hidden, _TOWER, has_bias=has_shift),
        *norm("norm1", hidden, _TOWER, has_bias=has_shift),
        *matrix("wqkv", 3 * inner, hidden, _TOWER, has_bias=attention_bias),
        *matrix("wo", hidden, inner, _TOWER, has_bias=attention_bias),
        *matrix("mlp.fc0", width, hidden, _TOWER, has_bias=linear_bias),
        *matrix("mlp.fc1", hidden, width, _TOWER, has_bias=linear_bias),
    )
    tower = (
        Weight("patch_embed.proj.weight", (hidden, 3, patch, patch), _TOWER, "conv"),
        *((vector("patch_embed.proj.bias", hidden, _TOWER),) if patch_bias else ()),
        Weight("patch_embed.pos_emb.weight", positions, _TOWER, "lookup"),
        *repeated("encoder.blocks.", fields.layer_count("vt_num_hidden_layers", "num_hidden_layers"), block),
        *norm("encoder.final_layernorm", hidden, _TOWER, has_bias=has_shift),
    )
    return (*prefixed("vision_tower.", tower), *_moon_projector(fields, hidden, text_hidden, has_norm=has_shift))


def _moon_projector(fields: Fields, hidden: int, text_hidden: int, *, has_norm: bool) -> Weights:
    kernel = fields.numbers("merge_kernel_size") or [2, 2]
    if len(kernel) != 2:  # noqa: PLR2004 - height and width
        raise BadInput("merge_kernel_size is not two numbers", where=fields.where)
    merged = fields.count("mm_hidden_size", default=hidden) * kernel[0] * kernel[1]
    weights = (
        *(layer_norm("pre_norm", fields.count("mm_hidden_size", default=hidden)) if has_norm else ()),
        *matrix("proj.0", merged, merged, _PROJECTOR, has_bias=has_norm),
        *matrix("proj.2", text_hidden, merged, _PROJECTOR, has_bias=has_norm),
    )
    return prefixed("mm_projector.", in_role(_PROJECTOR, weights))


def muse_vision(fields: Fields, *, merged: int, width: int, text_hidden: int) -> Weights:
    """Return Muse's tower, its two-layer adapter and the projection into the language model."""
    hidden, inner = fields.count("hidden_size"), fields.count("intermediate_size")
    patch, positions = patch_side(fields, "patch_size"), fields.count("pos_emb_height") * fields.count("pos_emb_width")
    block = (
        *layer_norm("norm1", hidden),
        *layer_norm("norm2", hidden),
        *biased("attn.proj", hidden, hidden),
        *(w for name in "qkv" for w in biased(f"attn.{name}_proj", hidden, hidden)),
        *biased("mlp.fc1", inner, hidden),
        *biased("mlp.fc2", hidden, inner),
    )
    pixels = 3 * fields.count("patch_temporal") * patch**2
    tower = (
        *matrix("patch_embedder.patch_embedding", hidden, pixels, _TOWER),
        table("patch_embedder.position_embedding_table.weight", positions, hidden, _TOWER),
        *layer_norm("ln_pre", hidden),
        *repeated("layers.", fields.layer_count(), block),
        *layer_norm("ln_post", hidden),
    )
    # The adapter is counted with the tower, as in model-configs/ground_truth.csv.
    adapter = (
        *matrix("model.vision_adapter.fc1", width, merged, _TOWER),
        *matrix("model.vision_adapter.fc2", width, width, _TOWER),
        *matrix("model.vision_projection", text_hidden, width, _TOWER),
    )
    return (*prefixed("model.vision_tower.", tower), *adapter)


def gemma4_vision(fields: Fields, *, text_hidden: int) -> Weights:
    """Return Gemma 4's tower with its projector; clipped maps hold four bounds each."""
    hidden, width = fields.count("hidden_size"), fields.count("intermediate_size")
    heads, kv_heads, dim = (
        fields.count("num_attention_heads"),
        fields.count("num_key_value_heads"),
        fields.count("head_dim"),
    )
    is_clipped = fields.flag("use_clipped_linears", default=False)
    block = (
        *clippable("self_attn.q_proj", heads * dim, hidden, _TOWER, is_clipped=is_clipped),
        *clippable("self_attn.k_proj", kv_heads * dim, hidden, _TOWER, is_clipped=is_clipped),
        *clippable("self_attn.v_proj", kv_heads * dim, hidden, _TOWER, is_clipped=is_clipped),
        *clippable("self_attn.o_proj", hidden, heads * dim, _TOWER, is_clipped=is_clipped),
        *norm("self_attn.q_norm", dim, _TOWER),
        *norm("self_attn.k_norm", dim, _TOWER),
        *clippable("mlp.gate_proj", width, hidden, _TOWER, is_clipped=is_clipped),
        *clippable("mlp.up_proj", width, hidden, _TOWER, is_clipped=is_clipped),
        *clippable("mlp.down_proj", hidden, width, _TOWER, is_clipped=is_clipped),
        *(
            w
            for name in (
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            )
            for w in norm(name, hidden, _TOWER)
        ),
    )
    tower = (
        Weight(
            "patch_embedder.position_embedding_table",
            (2, fields.count("position_embedding_size"), hidden),
            _TOWER,
            "lookup",
        ),
        *matrix("patch_embedder.input_proj", hidden, 3 * patch_side(fields, "patch_size") ** 2, _TOWER),
        *repeated("encoder.layers.", fields.layer_count(), block),
        *(
            (
                buffer("std_bias", (hidden,), _TOWER, stored_bits=16),
                buffer("std_scale", (hidden,), _TOWER, stored_bits=16),
            )
            if fields.flag("standardize", default=False)
            else ()
        ),
    )
    projector = matrix("model.embed_vision.embedding_projection", text_hidden, hidden, _PROJECTOR)
    return (*prefixed("model.vision_tower.", tower), *projector)


def clippable(name: str, out_features: int, in_features: int, role: Role, *, is_clipped: bool) -> Weights:
    """Return a linear map with the bounds of its inputs and outputs, where it has some."""
    bounds = ("input_min", "input_max", "output_min", "output_max") if is_clipped else ()
    return (
        *matrix(f"{name}.linear", out_features, in_features, role),
        *(buffer(f"{name}.{bound}", (), role, stored_bits=16) for bound in bounds),
    )


def gemma4_audio(fields: Fields, *, text_hidden: int) -> Weights:
    """Return Gemma 4's audio tower, a conformer, with its projector."""
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    channels = fields.numbers("subsampling_conv_channels") or [128, 32]
    is_clipped = fields.flag("use_clipped_linears", default=True)
    out, kernel = fields.count("output_proj_dims"), fields.count("conv_kernel_size")
    if len(channels) != 2:  # noqa: PLR2004 - two subsampling layers
        raise BadInput("subsampling_conv_channels is not two numbers", where=fields.where)

    def clip(name: str, out_features: int, in_features: int) -> Weights:
        return clippable(name, out_features, in_features, _AUDIO, is_clipped=is_clipped)

    def perceptron(name: str) -> Weights:
        return (
            *clip(f"{name}.ffw_layer_1", 4 * hidden, hidden),
            *clip(f"{name}.ffw_layer_2", hidden, 4 * hidden),
            *norm(f"{name}.pre_layer_norm", hidden, _AUDIO),
            *norm(f"{name}.post_layer_norm", hidden, _AUDIO),
        )

    block = (
        *perceptron("feed_forward1"),
        *perceptron("feed_forward2"),
        vector("self_attn.per_dim_scale", hidden // heads, _AUDIO),
        *(w for name in ("q_proj", "k_proj", "v_proj", "post") for w in clip(f"self_attn.{name}", hidden, hidden)),
        *matrix("self_attn.relative_k_proj", hidden, hidden, _AUDIO),
        *clip("lconv1d.linear_start", 2 * hidden, hidden),
        *clip("lconv1d.linear_end", hidden, hidden),
        Weight("lconv1d.depthwise_conv1d.weight", (hidden, 1, kernel), _AUDIO, "conv"),
        *norm("lconv1d.pre_layer_norm", hidden, _AUDIO),
        *norm("lconv1d.conv_norm", hidden, _AUDIO),
        *(w for name in ("norm_pre_attn", "norm_post_attn", "norm_out") for w in norm(name, hidden, _AUDIO)),
    )
    sampling = "subsample_conv_projection."
    tower = (
        Weight(f"{sampling}layer0.conv.weight", (channels[0], 1, 3, 3), _AUDIO, "conv"),
        *norm(f"{sampling}layer0.norm", channels[0], _AUDIO),
        Weight(f"{sampling}layer1.conv.weight", (channels[1], channels[0], 3, 3), _AUDIO, "conv"),
        *norm(f"{sampling}layer1.norm", channels[1], _AUDIO),
        *matrix(f"{sampling}input_proj_linear", hidden, channels[0] // 4 * channels[1], _AUDIO),
        *repeated("layers.", fields.layer_count(), block),
        *biased("output_proj", out, hidden, _AUDIO),
    )
    projector = matrix("model.embed_audio.embedding_projection", text_hidden, out, _AUDIO)
    return (*prefixed("model.audio_tower.", tower), *projector)


def mistral3_projector(*, hidden: int, text_hidden: int, merge: int, features: int, has_bias: bool) -> Weights:
    """Return Mistral 3's projector: a norm, a merger of neighbouring patches and two maps."""
    weights = (
        *norm("norm", hidden, _PROJECTOR),
        *matrix("patch_merger.merging_layer", hidden, hidden * merge**2, _PROJECTOR),
        *matrix("linear_1", text_hidden, hidden * features, _PROJECTOR, has_bias=has_bias),
        *matrix("linear_2", text_hidden, text_hidden, _PROJECTOR, has_bias=has_bias),
    )
    return prefixed("model.multi_modal_projector.", weights)
