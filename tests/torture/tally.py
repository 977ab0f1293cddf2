"""What a torture found: how many blows, how many survived, and what went wrong otherwise."""

from __future__ import annotations

import attrs


@attrs.define
class Tally:
    """Of one kind of torture; `notes` says what the blows were."""

    kind: str
    total: int = 0
    problems: list[str] = attrs.field(factory=list)
    fatal: int = 0
    notes: dict[str, int] = attrs.field(factory=dict)

    def blow(self, note: str, count: int = 1) -> None:
        """Count one blow under a name."""
        self.total += count
        self.notes[note] = self.notes.get(note, 0) + count

    def problem(self, text: str, blows: int = 1) -> None:
        """What did not survive, and how many blows that was."""
        self.problems.append(text)
        self.fatal += blows

    def add(self, other: Tally) -> None:
        """Take in the blows and problems of another."""
        for note, count in other.notes.items():
            self.blow(note, count)
        self.problems += other.problems
        self.fatal += other.fatal

    def __str__(self) -> str:
        notes = ", ".join(f"{count} {note}" for note, count in sorted(self.notes.items()))
        return f"{self.kind}: survived {self.total - min(self.fatal, self.total)} of {self.total} ({notes})"
