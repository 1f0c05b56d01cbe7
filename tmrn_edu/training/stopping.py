"""Being asked to stop: Ctrl-C, SIGTERM (a scheduler, `kill`), SIGUSR1 (Slurm's warning before the time is up)."""

import signal
import threading

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop has stopped before `step`, and says where to go on; `status` is what a shell reports for the signal."""

    def __init__(self, step: int, out: object, status: int = 130):
        super().__init__(f"stopped before step {step}; continue with --resume (resume=True in Python) from {out}")
        self.step, self.status = step, status


class StopRequest:
    """Within this context the first signal is only noted in `signal`; a second one interrupts at once, as ever.

    So the step at hand is finished and saved. Outside the main thread, where Python lets nobody handle signals, nothing is noted.
    Source: ours.
    """

    def __init__(self, say=print):
        self.signal: int | None = None
        self._say, self._before = say, {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
            self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, _) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        self._say(f"{signal.Signals(number).name}: this step is finished and saved first; once more stops at once")

    @property
    def status(self) -> int:
        """128 + the signal's number."""
        return 128 + (self.signal or signal.SIGINT)
