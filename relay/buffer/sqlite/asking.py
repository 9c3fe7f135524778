"""Questions of the event loop in, what the disk answers out, by way of the reader's thread."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import apsw

from relay.buffer.sqlite import reader
from relay.buffer.sqlite.commands import Corrupt
from relay.buffer.sqlite.reader import Budget, Chunk, Job, Reader, RowMissing
from relay.buffer.sqlite.schema import CORRUPT_ERRORS, DISK_ERRORS
from relay.buffer.sqlite.writer import Writer
from relay.model.errors import BufferUnavailable
from relay.model.records import StoredRow

Result = TypeVar("Result")


class Loop(Protocol):
    """The buffer's side in the event loop."""

    def must_be_open(self) -> None:
        """Raise BufferUnavailable when nothing can be asked any more."""
        ...

    def bind(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        ...

    def post(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Run `call` in the event loop."""
        ...


class Asking:
    """Puts questions to the reader's thread; a file that turns out corrupt is replaced."""

    def __init__(self, reader_: Reader, writer: Writer, loop: Loop) -> None:
        self._reader = reader_
        self._writer = writer
        self._loop = loop

    async def ask(self, question: Callable[[apsw.Connection], Result]) -> Result:
        """The answer. Raises BufferUnavailable for whatever the disk says."""
        self._loop.must_be_open()
        loop = self._loop.bind()
        future: asyncio.Future[Result] = loop.create_future()

        def told(result: Result | None, error: BaseException | None) -> None:
            self._loop.post(_resolve, future, result, error)

        generation = self._writer.generation
        self._reader.ask(Job(question, told))
        try:
            return await future
        except CORRUPT_ERRORS as error:
            await self._report(generation, str(error))
            raise BufferUnavailable("the buffer's file was damaged and was replaced") from error
        except DISK_ERRORS as error:
            raise BufferUnavailable(f"the buffer cannot be read: {error}") from error

    async def _report(self, generation: int, words: str, row: int = 0) -> None:
        """Return when the writer has looked, and replaced the file where it must."""
        seen = self._loop.bind().create_future()
        self._writer.put(Corrupt(generation, words, seen, row))
        await seen

    def look_up(
        self,
        question: Callable[[apsw.Connection], Result],
        told: Callable[[Result | None, BaseException | None], None],
    ) -> None:
        """Ask without waiting; `told` is called in the event loop."""
        self._reader.ask(Job(question, partial(self._loop.post, told)))

    async def read_chunk(self, first_row: int, last_row: int, budget: Budget) -> Chunk | None:
        """Rows from disk; None: the file was replaced meanwhile."""
        generation = self._writer.generation
        question = partial(reader.read_rows, first_row=first_row, last_row=last_row, budget=budget)
        try:
            try:
                chunk = await self.ask(question)
            except RowMissing as missing:
                await self._report(generation, str(missing), missing.row)
                if generation != self._writer.generation:
                    return None
                # It has gone in an orderly way, or there never was one.
                chunk = await self.ask(partial(question, may_skip=True))
        except BufferUnavailable:
            if generation != self._writer.generation:
                return None
            raise
        return chunk if generation == self._writer.generation else None

    async def read_row(self, row: int) -> StoredRow | None:
        """That row from disk; None when it has gone or is damaged."""
        return await self.ask(partial(reader.read_one, row=row))


def _resolve(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
