"""Families of models, told by the whole set of their tensors' names: a table, and what the shapes then say.

In names '#' stands for a number. A family is there if all names that it needs are, below one prefix; the first row
that matches holds. Facts are sizes: `wte.weight:0` is the first dimension of that tensor, `c_fc.weight:larger` the
larger of its two, and the name alone how many such tensors there are. `a|b`: the first that is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import escape
from .module_trees import STATED
from .record import Record

if TYPE_CHECKING:
    from .checkpoint import Names

MOST_NAMES = 20_000  # names that differ by more than numbers
LONGEST = 500  # characters of a name
NUMBER = re.compile(r"(?<![^./])\d{1,6}(?![^./])|(?<=encoder_layer_)\d{1,6}")


class Family(Record):
    """What kind of model it is, inferred from the names and shapes of its tensors.

    Attributes
    ----------
    name : str
        'GPT-2'.
    text : str
        One line: 'GPT-2: 12 layers, width 768, ...'.
    evidence : str
        The names that it was told by.
    facts : Mapping
        'depth', 'width', 'feed_forward', 'vocabulary', 'heads', ...: what follows from the shapes, and no more.
    """

    name: str
    text: str
    evidence: str
    facts: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash((self.name, self.text))


class Row(NamedTuple):
    """A family: the names it needs, those it must not have, sizes, its embedding and output layer, sizes of heads."""

    name: str
    needs: str
    facts: str
    tied: str = ""  # embedding and head
    unless: str = ""
    heads: str = ""  # queries:rows, keys, and what tells the width of one head


LLAMA = "embed_tokens.weight layers.#.self_attn.q_proj.weight"
LLAMA_FACTS = "depth=layers.#.self_attn.q_proj.weight width=embed_tokens.weight:1 vocabulary=embed_tokens.weight:0"
LLAMA_WIDE = f"{LLAMA_FACTS} feed_forward=layers.#.mlp.gate_proj.weight:0 key_width=layers.#.self_attn.k_proj.weight:0"
LLAMA_TIED = "embed_tokens.weight lm_head.weight"
LLAMA_HEADS = (
    "layers.#.self_attn.q_proj.weight layers.#.self_attn.k_proj.weight "
    "layers.#.self_attn.rotary_emb.inv_freq|layers.#.self_attn.q_norm.weight"
)
BERT = "embeddings.word_embeddings.weight embeddings.token_type_embeddings.weight"
BERT_FACTS = (
    "depth=encoder.layer.#.attention.self.query.weight width=encoder.layer.#.attention.self.query.weight:1 "
    "feed_forward=encoder.layer.#.intermediate.dense.weight:0 vocabulary=embeddings.word_embeddings.weight:0 "
    "positions=embeddings.position_embeddings.weight:0"
)
RESNET = "conv1.weight layer1.#.conv1.weight layer2.#.conv1.weight layer3.#.conv1.weight layer4.#.conv1.weight"
RESNET_FACTS = (
    "stage1=layer1.#.conv1.weight stage2=layer2.#.conv1.weight stage3=layer3.#.conv1.weight "
    "stage4=layer4.#.conv1.weight classes=fc.weight:0"
)

FAMILIES: tuple[Row, ...] = (
    Row("LoRA adapter", "lora_A.weight|lora_A.default.weight lora_B.weight|lora_B.default.weight",
        "rank=lora_A.weight|lora_A.default.weight:0", unless="embed_tokens.weight wte.weight"),
    # decoders
    Row("GPT-2", "wte.weight wpe.weight h.#.attn.c_attn.weight h.#.mlp.c_fc.weight",
        "depth=h.#.attn.c_attn.weight width=wte.weight:1 feed_forward=h.#.mlp.c_fc.weight:larger "
        "vocabulary=wte.weight:0 positions=wpe.weight:0", "wte.weight lm_head.weight"),
    Row("GPT-Neo", "wte.weight wpe.weight h.#.attn.attention.q_proj.weight h.#.mlp.c_fc.weight",
        "depth=h.#.attn.attention.q_proj.weight width=wte.weight:1 feed_forward=h.#.mlp.c_fc.weight:0 "
        "vocabulary=wte.weight:0 positions=wpe.weight:0", "wte.weight lm_head.weight"),
    Row("GPT-J", "wte.weight h.#.attn.q_proj.weight h.#.mlp.fc_in.weight",
        "depth=h.#.attn.q_proj.weight width=wte.weight:1 feed_forward=h.#.mlp.fc_in.weight:0 vocabulary=wte.weight:0",
        "wte.weight lm_head.weight"),
    Row("GPT-NeoX", "embed_in.weight layers.#.attention.query_key_value.weight layers.#.mlp.dense_h_to_4h.weight",
        "depth=layers.#.attention.query_key_value.weight width=embed_in.weight:1 "
        "feed_forward=layers.#.mlp.dense_h_to_4h.weight:0 vocabulary=embed_in.weight:0",
        "embed_in.weight embed_out.weight"),
    Row("BLOOM", "word_embeddings.weight word_embeddings_layernorm.weight h.#.self_attention.query_key_value.weight",
        "depth=h.#.self_attention.query_key_value.weight width=word_embeddings.weight:1 "
        "feed_forward=h.#.mlp.dense_h_to_4h.weight:0 vocabulary=word_embeddings.weight:0",
        "word_embeddings.weight lm_head.weight"),
    Row("Falcon", "word_embeddings.weight h.#.self_attention.query_key_value.weight h.#.mlp.dense_h_to_4h.weight",
        "depth=h.#.self_attention.query_key_value.weight width=word_embeddings.weight:1 "
        "feed_forward=h.#.mlp.dense_h_to_4h.weight:0 vocabulary=word_embeddings.weight:0",
        "word_embeddings.weight lm_head.weight"),
    Row("ChatGLM2", "embedding.word_embeddings.weight encoder.layers.#.self_attention.query_key_value.weight "
        "encoder.layers.#.mlp.dense_4h_to_h.weight",
        "depth=encoder.layers.#.self_attention.query_key_value.weight width=embedding.word_embeddings.weight:1 "
        "feed_forward=encoder.layers.#.mlp.dense_4h_to_h.weight:1 vocabulary=embedding.word_embeddings.weight:0",
        "embedding.word_embeddings.weight output_layer.weight"),
    Row("MPT", "wte.weight blocks.#.attn.Wqkv.weight blocks.#.ffn.up_proj.weight",
        "depth=blocks.#.attn.Wqkv.weight width=wte.weight:1 feed_forward=blocks.#.ffn.up_proj.weight:0 "
        "vocabulary=wte.weight:0", "wte.weight lm_head.weight"),
    Row("Mamba", "layers.#.mixer.A_log layers.#.mixer.in_proj.weight",
        "depth=layers.#.mixer.A_log width=layers.#.mixer.in_proj.weight:1 state=layers.#.mixer.A_log:1 "
        "vocabulary=embeddings.weight|embedding.weight:0", "embeddings.weight|embedding.weight lm_head.weight"),
    Row("RWKV", "emb.weight blocks.#.att.receptance.weight blocks.#.ffn.key.weight",
        "depth=blocks.#.att.receptance.weight width=emb.weight:1 feed_forward=blocks.#.ffn.key.weight:0 "
        "vocabulary=emb.weight:0", "emb.weight head.weight"),
    Row("Mixtral", f"{LLAMA} layers.#.block_sparse_moe.gate.weight layers.#.block_sparse_moe.experts.#.w1.weight",
        f"{LLAMA_FACTS} feed_forward=layers.#.block_sparse_moe.experts.#.w1.weight:0 "
        "experts=layers.#.block_sparse_moe.gate.weight:0 key_width=layers.#.self_attn.k_proj.weight:0",
        LLAMA_TIED, heads=LLAMA_HEADS),
    Row("DeepSeek-V2 or V3", "embed_tokens.weight layers.#.self_attn.kv_a_proj_with_mqa.weight",
        "depth=layers.#.self_attn.kv_a_proj_with_mqa.weight width=embed_tokens.weight:1 "
        "vocabulary=embed_tokens.weight:0 experts=layers.#.mlp.gate.weight:0", LLAMA_TIED),
    Row("LLaMA-like with experts", f"{LLAMA} layers.#.mlp.gate.weight layers.#.mlp.experts.#.gate_proj.weight",
        f"{LLAMA_FACTS} expert_feed_forward=layers.#.mlp.experts.#.gate_proj.weight:0 "
        "experts=layers.#.mlp.gate.weight:0", LLAMA_TIED, heads=LLAMA_HEADS),
    Row("Gemma 2 or 3", f"{LLAMA} layers.#.pre_feedforward_layernorm.weight layers.#.mlp.gate_proj.weight",
        LLAMA_WIDE, LLAMA_TIED, heads=LLAMA_HEADS),
    Row("Qwen3", f"{LLAMA} layers.#.self_attn.q_norm.weight layers.#.mlp.gate_proj.weight "
        "layers.#.post_attention_layernorm.weight", LLAMA_WIDE, LLAMA_TIED, heads=LLAMA_HEADS),
    Row("Qwen2", f"{LLAMA} layers.#.self_attn.q_proj.bias layers.#.mlp.gate_proj.weight "
        "layers.#.post_attention_layernorm.weight", LLAMA_WIDE, LLAMA_TIED,
        unless="layers.#.self_attn.o_proj.bias layers.#.input_layernorm.bias", heads=LLAMA_HEADS),
    Row("LLaMA-like", f"{LLAMA} layers.#.mlp.gate_proj.weight layers.#.input_layernorm.weight", LLAMA_WIDE, LLAMA_TIED,
        heads=LLAMA_HEADS),
    Row("Baichuan", "embed_tokens.weight layers.#.self_attn.W_pack.weight layers.#.mlp.gate_proj.weight",
        "depth=layers.#.self_attn.W_pack.weight width=embed_tokens.weight:1 "
        "feed_forward=layers.#.mlp.gate_proj.weight:0 vocabulary=embed_tokens.weight:0", LLAMA_TIED),
    Row("Phi-3", "embed_tokens.weight layers.#.self_attn.qkv_proj.weight layers.#.mlp.gate_up_proj.weight",
        "depth=layers.#.self_attn.qkv_proj.weight width=embed_tokens.weight:1 "
        "feed_forward=layers.#.mlp.down_proj.weight:1 vocabulary=embed_tokens.weight:0", LLAMA_TIED),
    Row("Phi-2", f"{LLAMA} layers.#.self_attn.dense.weight layers.#.mlp.fc1.weight",
        f"{LLAMA_FACTS} feed_forward=layers.#.mlp.fc1.weight:0", LLAMA_TIED),
    Row("LLaMA, as first published",
        "tok_embeddings.weight layers.#.attention.wq.weight layers.#.feed_forward.w1.weight",
        "depth=layers.#.attention.wq.weight width=tok_embeddings.weight:1 "
        "feed_forward=layers.#.feed_forward.w1.weight:0 vocabulary=tok_embeddings.weight:0 "
        "key_width=layers.#.attention.wk.weight:0", "tok_embeddings.weight output.weight"),
    Row("InternLM2", "tok_embeddings.weight layers.#.attention.wqkv.weight layers.#.feed_forward.w1.weight",
        "depth=layers.#.attention.wqkv.weight width=tok_embeddings.weight:1 "
        "feed_forward=layers.#.feed_forward.w1.weight:0 vocabulary=tok_embeddings.weight:0",
        "tok_embeddings.weight output.weight"),
    # speech, encoders and decoders
    Row("Whisper", "encoder.conv1.weight encoder.layers.#.self_attn.q_proj.weight "
        "decoder.layers.#.encoder_attn.q_proj.weight decoder.embed_tokens.weight",
        "encoder_depth=encoder.layers.#.self_attn.q_proj.weight depth=decoder.layers.#.encoder_attn.q_proj.weight "
        "width=decoder.embed_tokens.weight:1 feed_forward=decoder.layers.#.fc1.weight:0 "
        "vocabulary=decoder.embed_tokens.weight:0 mel_bins=encoder.conv1.weight:1",
        "decoder.embed_tokens.weight proj_out.weight"),
    Row("Whisper", "encoder.conv1.weight encoder.blocks.#.attn.query.weight decoder.blocks.#.cross_attn.query.weight "
        "decoder.token_embedding.weight",
        "encoder_depth=encoder.blocks.#.attn.query.weight depth=decoder.blocks.#.cross_attn.query.weight "
        "width=decoder.token_embedding.weight:1 feed_forward=decoder.blocks.#.mlp.#.weight:larger "
        "vocabulary=decoder.token_embedding.weight:0 mel_bins=encoder.conv1.weight:1"),
    Row("T5", "shared.weight encoder.block.#.layer.#.SelfAttention.q.weight "
        "decoder.block.#.layer.#.EncDecAttention.q.weight",
        "encoder_depth=encoder.block.#.layer.#.SelfAttention.q.weight "
        "depth=decoder.block.#.layer.#.SelfAttention.q.weight width=shared.weight:1 "
        "feed_forward=encoder.block.#.layer.#.DenseReluDense.wi.weight|"
        "encoder.block.#.layer.#.DenseReluDense.wi_0.weight:0 vocabulary=shared.weight:0 "
        "heads=encoder.block.#.layer.#.SelfAttention.relative_attention_bias.weight:1", "shared.weight lm_head.weight"),
    Row("BART-like",
        "shared.weight encoder.layers.#.self_attn.q_proj.weight decoder.layers.#.encoder_attn.q_proj.weight",
        "encoder_depth=encoder.layers.#.self_attn.q_proj.weight depth=decoder.layers.#.encoder_attn.q_proj.weight "
        "width=shared.weight:1 feed_forward=decoder.layers.#.fc1.weight:0 vocabulary=shared.weight:0",
        "shared.weight lm_head.weight"),
    Row("OPT", "decoder.embed_tokens.weight decoder.embed_positions.weight decoder.layers.#.self_attn.q_proj.weight "
        "decoder.layers.#.fc1.weight",
        "depth=decoder.layers.#.self_attn.q_proj.weight width=decoder.layers.#.self_attn.q_proj.weight:1 "
        "feed_forward=decoder.layers.#.fc1.weight:0 vocabulary=decoder.embed_tokens.weight:0",
        "decoder.embed_tokens.weight lm_head.weight", unless="decoder.layers.#.encoder_attn.q_proj.weight"),
    Row("wav2vec 2.0 or HuBERT", "feature_extractor.conv_layers.#.conv.weight encoder.layers.#.attention.q_proj.weight "
        "encoder.layers.#.feed_forward.intermediate_dense.weight",
        "depth=encoder.layers.#.attention.q_proj.weight width=encoder.layers.#.attention.q_proj.weight:1 "
        "feed_forward=encoder.layers.#.feed_forward.intermediate_dense.weight:0"),
    # encoders
    Row("BERT-like", f"{BERT} encoder.layer.#.attention.self.query.weight encoder.layer.#.intermediate.dense.weight",
        BERT_FACTS, "embeddings.word_embeddings.weight cls.predictions.decoder.weight|lm_head.decoder.weight"),
    Row("DeBERTa", "embeddings.word_embeddings.weight encoder.layer.#.attention.self.query_proj.weight",
        "depth=encoder.layer.#.attention.self.query_proj.weight "
        "width=encoder.layer.#.attention.self.query_proj.weight:1 "
        "feed_forward=encoder.layer.#.intermediate.dense.weight:0 vocabulary=embeddings.word_embeddings.weight:0"),
    Row("DistilBERT", "embeddings.word_embeddings.weight transformer.layer.#.attention.q_lin.weight",
        "depth=transformer.layer.#.attention.q_lin.weight width=embeddings.word_embeddings.weight:1 "
        "feed_forward=transformer.layer.#.ffn.lin1.weight:0 vocabulary=embeddings.word_embeddings.weight:0 "
        "positions=embeddings.position_embeddings.weight:0"),
    # text and images
    Row("CLIP", "text_model.encoder.layers.#.self_attn.q_proj.weight "
        "vision_model.encoder.layers.#.self_attn.q_proj.weight logit_scale",
        "depth=text_model.encoder.layers.#.self_attn.q_proj.weight "
        "width=text_model.embeddings.token_embedding.weight:1 "
        "vocabulary=text_model.embeddings.token_embedding.weight:0 "
        "vision_depth=vision_model.encoder.layers.#.self_attn.q_proj.weight "
        "vision_width=vision_model.embeddings.patch_embedding.weight:0 "
        "patch=vision_model.embeddings.patch_embedding.weight:3"),
    Row("CLIP",
        "token_embedding.weight transformer.resblocks.#.attn.in_proj_weight visual.conv1.weight text_projection",
        "depth=transformer.resblocks.#.attn.in_proj_weight width=token_embedding.weight:1 "
        "vocabulary=token_embedding.weight:0 vision_depth=visual.transformer.resblocks.#.attn.in_proj_weight "
        "vision_width=visual.conv1.weight:0 patch=visual.conv1.weight:3"),
    Row("CLIP's text encoder", "text_model.embeddings.token_embedding.weight "
        "text_model.encoder.layers.#.self_attn.q_proj.weight",
        "depth=text_model.encoder.layers.#.self_attn.q_proj.weight "
        "width=text_model.embeddings.token_embedding.weight:1 "
        "feed_forward=text_model.encoder.layers.#.mlp.fc1.weight:0 "
        "vocabulary=text_model.embeddings.token_embedding.weight:0"),
    # images
    Row("Swin", "patch_embed.proj.weight layers.#.blocks.#.attn.relative_position_bias_table",
        "blocks=layers.#.blocks.#.attn.qkv.weight width=patch_embed.proj.weight:0 patch=patch_embed.proj.weight:3 "
        "classes=head.weight|head.fc.weight:0"),
    Row("ViT", "patch_embed.proj.weight blocks.#.attn.qkv.weight blocks.#.mlp.fc1.weight",
        "depth=blocks.#.attn.qkv.weight width=patch_embed.proj.weight:0 feed_forward=blocks.#.mlp.fc1.weight:0 "
        "patch=patch_embed.proj.weight:3 classes=head.weight:0"),
    Row("ViT", "embeddings.patch_embeddings.projection.weight encoder.layer.#.attention.attention.query.weight",
        "depth=encoder.layer.#.attention.attention.query.weight "
        "width=embeddings.patch_embeddings.projection.weight:0 "
        "feed_forward=encoder.layer.#.intermediate.dense.weight|encoder.layer.#.mlp.fc1.weight:0 "
        "patch=embeddings.patch_embeddings.projection.weight:3 classes=classifier.weight:0"),
    Row("ViT", "conv_proj.weight encoder.layers.encoder_layer_#.self_attention.in_proj_weight",
        "depth=encoder.layers.encoder_layer_#.self_attention.in_proj_weight width=conv_proj.weight:0 "
        "feed_forward=encoder.layers.encoder_layer_#.mlp.#.weight|"
        "encoder.layers.encoder_layer_#.mlp.linear_1.weight:larger patch=conv_proj.weight:3 "
        "classes=heads.head.weight:0"),
    Row("ResNet", f"{RESNET} layer1.#.conv2.weight bn1.running_mean", RESNET_FACTS),
    Row("ConvNeXt", "stages.#.blocks.#.conv_dw.weight stages.#.blocks.#.mlp.fc1.weight",
        "blocks=stages.#.blocks.#.conv_dw.weight classes=head.fc.weight:0"),
    Row("EfficientNet or MobileNet", "conv_stem.weight blocks.#.#.conv_dw.weight",
        "blocks=blocks.#.#.conv_dw.weight classes=classifier.weight:0"),
    Row("YOLOv8 or later", "model.#.dfl.conv.weight model.#.conv.weight model.#.cv2.#.#.conv.weight",
        "bins=model.#.dfl.conv.weight:1"),
    Row("YOLOv5", "model.#.conv.weight model.#.cv1.conv.weight model.#.m.#.weight model.#.anchors",
        "width=model.#.conv.weight:0"),
    # diffusion
    Row("diffusion U-Net", "input_blocks.#.#.in_layers.#.weight middle_block.#.in_layers.#.weight "
        "output_blocks.#.#.in_layers.#.weight time_embed.#.weight",
        "width=input_blocks.#.#.weight:0 channels=input_blocks.#.#.weight:1 "
        "context=input_blocks.#.#.transformer_blocks.#.attn2.to_k.weight:1"),
    Row("diffusion U-Net", "down_blocks.#.resnets.#.conv1.weight mid_block.resnets.#.conv1.weight "
        "up_blocks.#.resnets.#.conv1.weight time_embedding.linear_1.weight",
        "width=conv_in.weight:0 channels=conv_in.weight:1 "
        "context=down_blocks.#.attentions.#.transformer_blocks.#.attn2.to_k.weight:1"),
    Row("Flux", "double_blocks.#.img_attn.qkv.weight single_blocks.#.linear1.weight img_in.weight",
        "depth=double_blocks.#.img_attn.qkv.weight single_depth=single_blocks.#.linear1.weight width=img_in.weight:0 "
        "channels=img_in.weight:1"),
    Row("DiT", "blocks.#.adaLN_modulation.#.weight x_embedder.proj.weight blocks.#.attn.qkv.weight",
        "depth=blocks.#.attn.qkv.weight width=x_embedder.proj.weight:0 patch=x_embedder.proj.weight:3"),
    Row("autoencoder of latent diffusion", "encoder.down.#.block.#.conv1.weight decoder.up.#.block.#.conv1.weight "
        "quant_conv.weight", "width=encoder.conv_in.weight:0 latent_channels=decoder.conv_in.weight:1"),
    Row("autoencoder of latent diffusion", "encoder.down_blocks.#.resnets.#.conv1.weight "
        "decoder.up_blocks.#.resnets.#.conv1.weight",
        "width=encoder.conv_in.weight:0 latent_channels=decoder.conv_in.weight:1"),
    # torch's own layers
    Row("decoder of torch.nn layers", "layers.#.self_attn.in_proj_weight layers.#.multihead_attn.in_proj_weight "
        "layers.#.linear1.weight",
        "depth=layers.#.multihead_attn.in_proj_weight width=layers.#.linear1.weight:1 "
        "feed_forward=layers.#.linear1.weight:0 vocabulary=embed.weight|embedding.weight:0",
        "embed.weight|embedding.weight fc.weight|head.weight|out.weight", unless="encoder.layers.#.linear1.weight"),
)  # fmt: skip

LABELS = {
    "depth": "{} layers", "encoder_depth": "{} encoder layers", "vision_depth": "{} vision layers",
    "single_depth": "{} single layers", "blocks": "{} blocks", "width": "width {}", "vision_width": "vision width {}",
    "feed_forward": "feed-forward {}", "expert_feed_forward": "feed-forward {} of an expert", "heads": "{} heads",
    "key_heads": "{} heads of keys", "vocabulary": "vocabulary {}", "positions": "{} positions",
    "experts": "{} experts", "key_width": "keys {} wide", "patch": "patches of {}", "classes": "{} classes",
    "context": "context {} wide", "channels": "{} channels", "latent_channels": "{} latent channels",
    "mel_bins": "{} mel bins", "rank": "rank {}", "state": "state {}", "bins": "{} bins of a box",
}  # fmt: skip


class _Names(NamedTuple):
    """A name without its numbers: how many have it, and the shape of the first."""

    n: int
    shape: tuple[int, ...]
    first: str


def family_of(checkpoint: Names) -> Family | None:
    """The first family whose names are all there, or None."""
    found: dict[str, list[Any]] = {}
    for i, name in enumerate(checkpoint._list):
        if len(name) > LONGEST:
            continue
        plain = NUMBER.sub("#", name)
        row = found.get(plain)
        if row is not None:
            row[0] += 1
        elif len(found) < MOST_NAMES:
            found[plain] = [1, i, name]
        else:
            return None
    shown = {plain: _Names(n, checkpoint._make(i, name).shape, name) for plain, (n, i, name) in found.items()}
    for row_of_table in FAMILIES:
        there = _Match.of(row_of_table, shown)
        if there is not None:
            return there.family(checkpoint)
    return None


class _Match(NamedTuple):
    """A row, and the prefix below which its names are."""

    row: Row
    names: Mapping[str, _Names]
    prefix: str

    @staticmethod
    def of(row: Row, names: Mapping[str, _Names]) -> _Match | None:
        needs = row.needs.split()
        for first in needs[0].split("|"):
            for name in names:
                if name == first or (name.endswith(first) and name[-len(first) - 1] in "./"):
                    match = _Match(row, names, name[: len(name) - len(first)])
                    if all(map(match.get, needs)) and not any(map(match.get, row.unless.split())):
                        return match
        return None

    def get(self, alternatives: str) -> _Names | None:
        """The first of several names that is there: below the prefix, or beside what it belongs to."""
        for name in alternatives.split("|"):
            found = self.names.get(self.prefix + name)
            if found is not None:
                return found
        return None

    def outer(self, alternatives: str) -> _Names | None:
        """The same, also of names that stand above the prefix: heads do."""
        prefix = self.prefix
        while True:
            for name in alternatives.split("|"):
                if (found := self.names.get(prefix + name)) is not None:
                    return found
            if not prefix:
                return None
            prefix = prefix[: max(prefix.rfind(".", 0, -1), prefix.rfind("/", 0, -1)) + 1]

    def family(self, checkpoint: Names) -> Family:
        facts: dict[str, Any] = {}
        for word in self.row.facts.split():
            key, _, what = word.partition("=")
            names, colon, dimension = what.partition(":")
            found = self.outer(names)
            if found is None:
                continue
            if not colon:
                facts[key] = found.n
            elif dimension == "larger":
                facts |= {key: max(found.shape)} if len(found.shape) == 2 else {}
            elif int(dimension) < len(found.shape):
                facts[key] = found.shape[int(dimension)]
        if facts.get("key_width") == facts.get("width"):
            facts.pop("key_width", None)
        facts |= self._heads() or _stated_heads(checkpoint)
        name = self.row.name
        if name == "ResNet":
            name, facts = _resnet(self, facts)
        texts = [LABELS[key].format(f"{value:,}") for key, value in facts.items() if key in LABELS]
        tied, told = self._tied(checkpoint)
        facts |= {} if tied is None else {"tied": tied}
        needed = [n.first for n in map(self.get, self.row.needs.split()) if n is not None]
        evidence = ", ".join(escape(NUMBER.sub("#", name)) for name in needed)
        text = f"{name}: {', '.join(texts)}" if texts else name
        return Family(name, text + (f"; {told}" if told else ""), evidence, MappingProxyType(facts))

    def _heads(self) -> dict[str, int]:
        """How many there are, where a tensor of the file is as wide as one."""
        if not self.row.heads:
            return {}
        queries, keys, one = map(self.get, self.row.heads.split())
        if queries is None or keys is None or one is None or len(one.shape) != 1 or not one.shape[0]:
            return {}
        width = one.shape[0] * (2 if one.first.endswith("inv_freq") else 1)
        if len(queries.shape) != 2 or len(keys.shape) != 2 or queries.shape[0] % width or keys.shape[0] % width:
            return {}
        heads, key_heads = queries.shape[0] // width, keys.shape[0] // width
        return {"heads": heads, **({"key_heads": key_heads} if key_heads != heads else {})}

    def _tied(self, checkpoint: Names) -> tuple[bool | None, str]:
        """Are the embedding and the output layer the same elements?"""
        if not self.row.tied:
            return None, ""
        embedding, head = map(self.outer, self.row.tied.split())
        if embedding is None:
            return None, ""
        if head is None:
            return None, "no output layer in the file: it is tied to the embedding, or left out"
        same = checkpoint[embedding.first]._identity == checkpoint[head.first]._identity
        return same, "output layer tied to the embedding" if same else ""


def _stated_heads(checkpoint: Names) -> dict[str, int]:
    """What the first attention says of itself, where the file holds the modules as objects."""
    if checkpoint._stated() is not None:
        for module in checkpoint.modules.walk():
            heads = module.config.get("num_heads")
            if module.basis == STATED and type(heads) is int and heads > 0:
                return {"heads": heads}
    return {}


RESNETS = {
    (False, (2, 2, 2, 2)): "18", (False, (3, 4, 6, 3)): "34", (True, (3, 4, 6, 3)): "50", (True, (3, 4, 23, 3)): "101",
    (True, (3, 8, 36, 3)): "152",
}  # fmt: skip


def _resnet(match: _Match, facts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Its number, by the blocks of its stages, where they are as wide as those of the first ones."""
    stages = tuple(facts.pop(f"stage{i}") for i in (1, 2, 3, 4))
    bottleneck = match.get("layer1.#.conv3.weight") is not None
    second, stem = match.get("layer1.#.conv2.weight"), match.get("conv1.weight")
    usual = second is not None and stem is not None and second.shape[:2] == (64, 64) and stem.shape[:1] == (64,)
    number = RESNETS.get((bottleneck, stages)) if usual else None
    name = f"ResNet-{number}" if number else f"ResNet of {'-'.join(map(str, stages))} blocks"
    facts = {"blocks": sum(stages), "stages": stages, "bottleneck": bottleneck, **facts}
    return name, facts
