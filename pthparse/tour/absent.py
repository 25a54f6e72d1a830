"""Part 7: what the file does not hold, and what of such things it holds all the same."""

from __future__ import annotations

from ..capacity import OPTIMIZER
from .opening import Subject, section, table
from .words import Own, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FEW = 4
# Formats whose plain values are the container's own, and not what a training loop saved.
OWN_VALUES = ("safetensors", "pt2", "sharded", "torchscript")
GRADIENTS = ("grad", "grads", "gradients")


def absent(subject: Subject) -> Section:
    say, ckpt, c = subject.say, subject.ckpt, subject.capacity
    roles = {g.name: g for g in c.groups("role")}
    moments = roles.get(OPTIMIZER)
    names = [t for t in ckpt if t.rpartition(".")[2] in GRADIENTS or t.partition("/")[0] in GRADIENTS]
    values = {} if ckpt.format in OWN_VALUES else ckpt.root_values
    values = {k: v for k, v in values.items() if type(v) in (int, float)}
    sources = [s.cls for s in ckpt.sources]
    kind = "source" if sources else "script" if ckpt.format == "torchscript" else ""
    kind = kind or ("graph" if ckpt.format == "pt2" else "classes" if ckpt.whole_module else "none")
    facts: dict[str, Any] = {
        "tensors": c.tensors,
        "code": kind,
        "gradients": len(names),
        "optimizer_tensors": moments.tensors if moments else 0,
        "optimizer_nbytes": moments.nbytes if moments else 0,
        "values": sorted(values)[:FEW],
    }
    yes, no = say("absent.yes"), say("absent.no")
    few = list(values.items())[:FEW]
    progress = ", ".join(f"{say.format_field(k, '')} = {say.format_field(v, '')}" for k, v in few)
    rows = [
        (say("absent.numbers"), yes if c.tensors else no, say("absent.numbers.note", n=c.tensors)),
        (say("absent.code"), no if kind in ("none", "classes") else yes, say(f"absent.code.{kind}")),
        (
            say("absent.config"),
            say("absent.partly") if kind != "none" else no,
            say("absent.config.whole" if kind != "none" else "absent.config.note"),
        ),
        (
            say("absent.gradients"),
            yes if names else no,
            say("absent.gradients.yes", n=len(names)) if names else say("absent.gradients.note"),
        ),
        (
            say("absent.optimizer"),
            yes if moments else no,
            say("absent.optimizer.yes", n=moments.tensors, size=moments.nbytes)
            if moments
            else say("absent.optimizer.no"),
        ),
        (
            say("absent.progress"),
            yes if values else no,
            say("absent.progress.yes", values=Own(progress)) if values else say("absent.progress.no"),
        ),
        (say("absent.tokenizer"), no, say("absent.tokenizer.note")),
        (say("absent.data"), no, say("absent.data.note")),
    ]
    blocks = [
        say("absent.intro"),
        table(say, ("head.item", "head.here", "head.why"), "lll", rows),
        say("absent.outro", n=c.parameters) if c.parameters else None,
    ]
    return section(say, 7, "absent", blocks, facts)
