"""Ask a running router in its three languages, and say how fast it answered."""
# ruff: noqa: PLC0415 - httpx takes 0.1 s to import; only the demo asks over HTTP

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kloros_infra.client import Answer as BusAnswer

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as one of the router's languages gave it."""

    text: str
    model: str
    profile: str
    ttft_ms: float
    tokens_per_s: float

    def __str__(self) -> str:
        return (
            f"model {self.model}, profile {self.profile}, TTFT {self.ttft_ms:.0f} ms, {self.tokens_per_s:.1f} tokens/s"
        )


def bus_answer(answer: BusAnswer) -> Answer:
    """Read an answer that came over ChemBus or the direct endpoint."""
    metadata = answer.metadata
    return Answer(answer.text, answer.model_id, answer.profile, metadata["ttft_ms"], metadata["tokens_per_sec"])


def ask_openai(base: str, body: Mapping[str, Any], on_text: Callable[[str], None]) -> Answer:
    """Stream `/v1/chat/completions`; TTFT is what the client saw, tokens/s what llama-server reports."""
    texts: list[str] = []
    facts: dict[str, Any] = {}
    for chunk, elapsed_s, headers in _lines(f"{base}/v1/chat/completions", {**body, "stream": True}):
        data = chunk.removeprefix("data: ")
        if not chunk.startswith("data: ") or data == "[DONE]":
            continue
        event = json.loads(data)
        facts.update(model=event.get("model", ""), profile=headers.get("x-kloros-profile", ""))
        facts.update(event.get("timings", {}))
        text = "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))
        if text:
            facts.setdefault("ttft_ms", elapsed_s * 1000)
            texts.append(text)
            on_text(text)
    speed = facts.get("predicted_per_second", 0.0)
    return Answer("".join(texts), facts["model"], facts["profile"], facts.get("ttft_ms", 0.0), speed)


def ask_ollama(base: str, body: Mapping[str, Any], on_text: Callable[[str], None]) -> Answer:
    """Stream `/api/generate`, one JSON object a line."""
    texts: list[str] = []
    facts: dict[str, Any] = {}
    for line, elapsed_s, headers in _lines(f"{base}/api/generate", body):
        event = json.loads(line)
        facts.update(event, profile=headers.get("x-kloros-profile", ""))
        text = event.get("response", "")
        if text:
            facts.setdefault("ttft_ms", elapsed_s * 1000)
            texts.append(text)
            on_text(text)
    seconds = facts.get("eval_duration", 0) / NS_PER_S
    speed = facts.get("eval_count", 0) / seconds if seconds else 0.0
    return Answer("".join(texts), facts["model"], facts["profile"], facts.get("ttft_ms", 0.0), speed)


def _lines(url: str, body: Mapping[str, Any]) -> Iterator[tuple[str, float, Mapping[str, str]]]:
    """Post and give each line with the seconds since the request, and the response's headers."""
    import httpx

    began = time.monotonic()
    with httpx.stream("POST", url, json=dict(body), timeout=60) as response:
        if response.is_error:
            response.read()
        response.raise_for_status()
        for line in response.iter_lines():
            if line:
                yield line, time.monotonic() - began, response.headers
