"""Replies of an evaluation that is under way, kept with the study every minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.study.journal import Journal

# an attribute of a study, one for each evaluation under way
REPLIES = "replies:"
# seconds of replies that a kill may lose
EVERY = 60.0


class KeptReplies:
    """Goes on with what a killed process was replied, and keeps what this one is.

    `told` is told samples and seconds of each batch; what it raises ends the
    evaluation, once its replies are safe.
    """

    def __init__(self, journal: Journal, told: Callable[[int, float], object]) -> None:
        self.journal, self.told = journal, told
        # since replies were kept, since the last batch, and replies by then
        self.since, self.batch, self.count = Clock(), Clock(), 0
        self.known: dict[str, tuple[list[Any], int]] = {}
        # what others did, by name, with the seconds it took
        self.given: dict[str, tuple[list[Any], int, float]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Learn what others kept that may be dead by now."""
        kept = filter(None, self.journal.attributes(REPLIES))
        self.known = {each["name"]: (each["replies"], each["cut"]) for each in kept}

    def before(self, name: str) -> tuple[list[Any], int]:
        """Replies of whole batches that were given before, and those cut off."""
        if name in self.given:
            replies, cut, seconds = self.given.pop(name)
            self.told(len(replies), seconds)
            return replies, cut
        replies, cut = self.known.get(name, ([], 0))
        self.since, self.batch, self.count = Clock(), Clock(), len(replies)
        return list(replies), cut

    def tell(self, name: str, replies: Sequence[Any], cut: int) -> None:
        """Be told, after each batch, all replies so far."""
        done, seconds = len(replies) - self.count, self.batch.seconds
        self.count, self.batch = len(replies), Clock()
        try:
            self.told(done, seconds)
        except BaseException:
            self._keep(name, replies, cut)
            raise
        if self.since.seconds > EVERY:
            self._keep(name, replies, cut)

    def gather(self, name: str, replies: Sequence[Any], cut: int) -> None:
        """Keep what a crew has replied so far, if a minute went by since."""
        if self.since.seconds > EVERY:
            self._keep(name, replies, cut)

    def finished(self, name: str) -> None:
        """Forget an evaluation."""
        if name in self.known:
            self.journal.set_attribute(REPLIES + name, None)
            del self.known[name]

    def _keep(self, name: str, replies: Sequence[Any], cut: int) -> None:
        kept = {"name": name, "replies": list(replies), "cut": cut}
        self.journal.set_attribute(REPLIES + name, kept)
        self.known[name] = list(replies), cut
        self.since = Clock()
