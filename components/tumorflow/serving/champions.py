"""The model that answers now: another one takes its place without a request that fails."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tumorflow.champion.follower import resolve_current
from tumorflow.errors import TumorflowError
from tumorflow.serving.batches import ALONE, Batching
from tumorflow.serving.model import Model, load, load_champion

POLL_S = 1.0


@dataclass
class Champions:
    """Where models come from, and the one that is in use."""

    source: Path
    """A TFLite file, or a folder that `tumorflow champion follow` keeps."""
    variant: str
    tell: Callable[[str], None]
    prepare: Callable[[Model], None]
    """Is told of a model before it answers."""
    batching: Batching = ALONE
    current: Model | None = None
    _loaded: Path | None = None
    _trouble: str = ""
    _stopping: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Takes the model that is there now, if it is another one than that in use."""
        found = resolve_current(self.source) if self.source.is_dir() else self.source
        if found == self._loaded:
            return
        if found is None:
            self.current, self._loaded = None, None
            self.tell("the registry has no champion any more: requests are refused until there is one")
            return
        if self.source.is_dir():
            model = load_champion(found, self.variant, self.batching)
        else:
            model = load(found, batching=self.batching)
        self.prepare(model)
        self.current, self._loaded = model, found
        about = model.about
        of = f" {about.name}/{about.version}" if about.version else f" {about.name}"
        self.tell(f"answers come from{of}, {about.variant}, model {about.model_hash[:12]}")

    def follow(self) -> threading.Thread:
        """Returns a thread that looks for another champion until `stop`; whatever fails, the former stays.

        It has looked once when it returns.
        """
        self._try_to_look()
        thread = threading.Thread(target=self._follow, daemon=True, name="champions")
        thread.start()
        return thread

    def _follow(self) -> None:
        while not self._stopping.wait(POLL_S):
            self._try_to_look()

    def _try_to_look(self) -> None:
        try:
            self.look()
        except Exception as error:  # noqa: BLE001 - whatever it is, another champion may be better
            said = str(error) if isinstance(error, TumorflowError) else type(error).__name__
            if said != self._trouble:
                self._trouble = said
                self.tell(f"the champion in the folder cannot be loaded, the former one stays: {said}")
        else:
            self._trouble = ""

    def stop(self) -> None:
        """Ends the thread that looks."""
        self._stopping.set()
