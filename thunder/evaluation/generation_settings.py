"""Options of `thunder generate`; nothing here needs MLX."""

from __future__ import annotations

from pydantic import model_validator

from thunder.config import Settings, option

WHAT, HOW = "Model and prompt", "Decoding"


class GenerationSettings(Settings):
    """Options of `thunder generate`: answers of a model to texts, with the prompt that the model was trained with."""

    model: str | None = option(
        None,
        "Folder or Hugging Face repository of the base model (default: the one that the adapter names).",
        panel=WHAT,
    )
    adapter_path: str | None = option(
        None, "Folder of the adapter; without one the base answers.", aliases=["adapter"], panel=WHAT
    )
    raw_prompt: bool = option(
        False, "A text is the whole turn of the user; no instruction is put before it.", panel=WHAT
    )
    system_prompt: str | None = option(None, "System message before every text, as in mlx_lm.", panel=WHAT)

    batch_size: int = option(16, "Texts decoded at once; every size gives the same answers.", panel=HOW, ge=1)
    chunk_words: int = option(0, "Correct longer texts in chunks of this many words; 0 = whole.", panel=HOW, ge=0)
    min_margin: float | None = option(
        None, "Keep a text unless the answer is likelier by this many nats per code point.", panel=HOW
    )
    change_margin: float | None = option(
        None, "Apply each change of an answer by itself, where it makes the text likelier by this many nats.", panel=HOW
    )
    change_edits: int | None = option(
        None, "With --change-margin: leave out changes of more edits (code points) than this.", panel=HOW, ge=1
    )

    @model_validator(mode="after")
    def _one_decision(self) -> GenerationSettings:
        if self.min_margin is not None and self.change_margin is not None:
            raise ValueError("'min_margin' and 'change_margin' both decide which answers count; give one of them")
        if self.change_edits is not None and self.change_margin is None:
            raise ValueError("'change_edits' needs 'change_margin'")
        if self.raw_prompt and (self.min_margin, self.change_margin, self.chunk_words) != (None, None, 0):
            raise ValueError("'raw_prompt' texts are no corrections: margins and chunks do not apply to them")
        return self
