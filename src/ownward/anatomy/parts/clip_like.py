"""Further vision towers: SigLIP, and those of Qwen2-VL, Qwen2.5-VL and GLM."""

from __future__ import annotations

from ownward.anatomy.blueprint import Weight, Weights, matrix, norm, prefixed, table, vector
from ownward.anatomy.fields import Fields
from ownward.anatomy.parts.feed_forward import gated_mlp
from ownward.anatomy.parts.towers import biased, layer_norm, patch_side, repeated
from ownward.anatomy.roles import Role

_TOWER, _PROJECTOR = Role.VISION_TOWER, Role.VISION_PROJECTOR


def siglip_vision(fields: Fields) -> Weights:
    """Return SigLIP's tower, with its attention-pooling head unless that is switched off."""
    hidden, width = fields.count("hidden_size"), fields.count("intermediate_size")
    patch = patch_side(fields, "patch_size")
    positions = (patch_side(fields, "image_size") // patch) ** 2
    mlp = (*biased("mlp.fc1", width, hidden), *biased("mlp.fc2", hidden, width))
    block = (
        *layer_norm("layer_norm1", hidden),
        *(
            w
            for name in ("k_proj", "v_proj", "q_proj", "out_proj")
            for w in biased(f"self_attn.{name}", hidden, hidden)
        ),
        *layer_norm("layer_norm2", hidden),
        *mlp,
    )
    head = (
        vector("head.probe", hidden, _TOWER),
        Weight("head.attention.in_proj_weight", (3 * hidden, hidden), _TOWER),
        vector("head.attention.in_proj_bias", 3 * hidden, _TOWER),
        *biased("head.attention.out_proj", hidden, hidden),
        *layer_norm("head.layernorm", hidden),
        *prefixed("head.", mlp),
    )
    channels = fields.count("num_channels", default=3)
    tower = (
        Weight("embeddings.patch_embedding.weight", (hidden, channels, patch, patch), _TOWER, "conv"),
        vector("embeddings.patch_embedding.bias", hidden, _TOWER),
        table("embeddings.position_embedding.weight", positions, hidden, _TOWER),
        *repeated("encoder.layers.", fields.layer_count(), block),
        *layer_norm("post_layernorm", hidden),
        *(head if fields.flag("vision_use_head", default=True) else ()),
    )
    return prefixed("model.vision_tower.", tower)


def gemma3_projector(*, hidden: int, text_hidden: int) -> Weights:
    """Return Gemma 3's projector: a norm and one map."""
    return (
        Weight("model.multi_modal_projector.mm_input_projection_weight", (hidden, text_hidden), _PROJECTOR),
        *norm("model.multi_modal_projector.mm_soft_emb_norm", hidden, _PROJECTOR),
    )


def qwen2_vision(fields: Fields, *, prefix: str = "model.visual.") -> Weights:
    """Return Qwen2-VL's tower: a ViT without position table; `hidden_size` is where it leads to."""
    hidden, out = fields.count("embed_dim"), fields.count("hidden_size")
    width = int(fields.number("mlp_ratio", default=4) * hidden)
    block = (
        *layer_norm("norm1", hidden),
        *layer_norm("norm2", hidden),
        *biased("attn.qkv", 3 * hidden, hidden),
        *biased("attn.proj", hidden, hidden),
        *biased("mlp.fc1", width, hidden),
        *biased("mlp.fc2", hidden, width),
    )
    return prefixed(prefix, _qwen_tower(fields, hidden, out, block, has_shift=True))


def qwen2_5_vision(fields: Fields, *, prefix: str = "model.visual.") -> Weights:
    """Return Qwen2.5-VL's tower: Qwen2-VL's with RMSNorm and a gated perceptron."""
    hidden, width = fields.count("hidden_size"), fields.count("intermediate_size")
    block = (
        *norm("norm1", hidden, _TOWER),
        *norm("norm2", hidden, _TOWER),
        *biased("attn.qkv", 3 * hidden, hidden),
        *biased("attn.proj", hidden, hidden),
        *biased("mlp.gate_proj", width, hidden),
        *biased("mlp.up_proj", width, hidden),
        *biased("mlp.down_proj", hidden, width),
    )
    return prefixed(prefix, _qwen_tower(fields, hidden, fields.count("out_hidden_size"), block, has_shift=False))


def _qwen_tower(fields: Fields, hidden: int, out: int, block: Weights, *, has_shift: bool) -> Weights:
    side, merged = patch_side(fields, "patch_size"), hidden * fields.count("spatial_merge_size") ** 2
    pixels = (hidden, fields.count("in_channels", "in_chans"), fields.count("temporal_patch_size"), side, side)
    return (
        Weight("patch_embed.proj.weight", pixels, _TOWER, "conv"),
        *repeated("blocks.", fields.layer_count("depth"), block),
        *norm("merger.ln_q", hidden, _PROJECTOR, has_bias=has_shift),
        *matrix("merger.mlp.0", merged, merged, _PROJECTOR, has_bias=True),
        *matrix("merger.mlp.2", out, merged, _PROJECTOR, has_bias=True),
    )


def glm_vision(fields: Fields) -> Weights:
    """Return the tower of GLM-4.1V to 4.6V: a gated ViT, a downsampling convolution and a gated merger.

    `intermediate_size` is the merger's width; the blocks' own is `out_hidden_size`.
    """
    hidden, out = fields.count("hidden_size"), fields.count("out_hidden_size")
    context, bias = fields.count("intermediate_size"), fields.flag("attention_bias", default=False)
    side, merge = patch_side(fields, "patch_size"), fields.count("spatial_merge_size")
    pixels = (hidden, fields.count("in_channels"), fields.count("temporal_patch_size"), side, side)
    block = (
        *norm("norm1", hidden, _TOWER),
        *norm("norm2", hidden, _TOWER),
        *matrix("attn.qkv", 3 * hidden, hidden, _TOWER, has_bias=bias),
        *matrix("attn.proj", hidden, hidden, _TOWER),
        *gated_mlp(hidden, out, role=_TOWER),
    )
    tower = (
        table("embeddings.position_embedding.weight", (patch_side(fields, "image_size") // side) ** 2, hidden, _TOWER),
        Weight("patch_embed.proj.weight", pixels, _TOWER, "conv"),
        vector("patch_embed.proj.bias", hidden, _TOWER),
        *repeated("blocks.", fields.layer_count("depth"), block),
        *norm("post_conv_layernorm", hidden, _TOWER),
        Weight("downsample.weight", (out, hidden, merge, merge), _TOWER, "conv"),
        vector("downsample.bias", out, _TOWER),
        *norm("post_layernorm", hidden, _TOWER),
        *matrix("merger.proj", out, out, _PROJECTOR),
        *layer_norm("merger.post_projection_norm", out, _PROJECTOR),
        *gated_mlp(out, context, role=_PROJECTOR, prefix="merger."),
    )
    return prefixed("model.visual.", tower)
