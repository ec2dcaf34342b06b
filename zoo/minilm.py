"""MiniLM, a sentence encoder that was trained on a billion pairs of sentences, with a new head for classes of texts."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load as from_bytes
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from explainer.errors import unknown
from zoo import pretrained

# How much of it is trained: the head alone; the last two layers too; all of it; or low-rank additions to every layer.
WAYS = ("head", "last", "full", "adapters")
LAST = 2


class MeanForSequenceClassification(BertPreTrainedModel):
    """A BERT encoder, the mean of its real tokens' last states (as MiniLM was trained to be read), and a linear layer.

    input_ids, attention_mask ``(n, T)`` -> logits ``(n, classes)``. In the place of ids, ``states`` ``(n, T, width)`` that
    :meth:`lower` gave go on through the last ``top`` layers.
    """

    def __init__(self, config: BertConfig, top: int = 0) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.top = top
        self.post_init()

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, states: Tensor | None = None
    ) -> SequenceClassifierOutput:
        if states is None:
            states = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        else:
            states = self._through(states, attention_mask, slice(len(self.bert.encoder.layer) - self.top, None))
        real = torch.ones(states.shape[:2]) if attention_mask is None else attention_mask
        real = real.to(states)[..., None]
        mean = (states * real).sum(1) / real.sum(1).clamp(min=1)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(mean)))

    def lower(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The states that enter the last ``top`` layers."""
        embedded = self.bert.embeddings(input_ids=input_ids)
        return self._through(embedded, attention_mask, slice(0, len(self.bert.encoder.layer) - self.top))

    def _through(self, states: Tensor, mask: Tensor | None, layers: slice) -> Tensor:
        seen = None if mask is None else mask[:, None, None, :].bool()
        for layer in self.bert.encoder.layer[layers]:
            states = layer(states, seen)
        return states


def classifier(classes: int, way: str = "adapters", rank: int = 8) -> nn.Module:
    """MiniLM with a fresh head; only what ``way`` names can be trained.

    "adapters": W x + 2 B A x in every linear layer, A and B of ``rank`` (LoRA, Hu et al. 2021).
    Raises UnknownName, MissingDependency where the base is not installed, CorruptFile where it is not the one pinned.
    """
    if way not in WAYS:
        raise unknown("way of fine-tuning", way, WAYS)
    files = pretrained.contents("minilm")
    # No dropout on attention weights: the fused kernel of the CPU has none, and would be left for a slow one.
    config = BertConfig(**{**json.loads(files["config.json"]), "attention_probs_dropout_prob": 0.0}, num_labels=classes)
    module = MeanForSequenceClassification(config, LAST if way == "last" else 0)
    weights = from_bytes(files["model.safetensors"])
    module.bert.load_state_dict({name: tensor for name, tensor in weights.items() if name in module.bert.state_dict()})
    module.requires_grad_(way == "full")
    if way == "adapters":
        module = _adapted(module, rank)
    for layer in module.bert.encoder.layer[len(module.bert.encoder.layer) - module.top :]:
        layer.requires_grad_(True)
    module.classifier.requires_grad_(True)
    return module


def _adapted(module: Any, rank: int) -> Any:
    from peft import LoraConfig, inject_adapter_in_model

    linear = ["query", "key", "value", "dense"]
    return inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=linear), module)
