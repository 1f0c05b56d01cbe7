"""Whether a memory reader is one that the library can use: `te.check.reader(MyReader)`, for any reader that you write, in lesson 10 or out of it.

`reader` tries what every reader must do, `identity` what one must do that starts as the read it came from. The single trials: `reader_trials.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

import torch
from torch import nn

from tmrn_edu.check.reader_trials import TINY, TRIALS
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.segmenter import segment
from tmrn_edu.weights import load

MOVED = 0.1  # how far weights are moved, so that a reader is also tried away from where it starts
HOME = Path(__file__).resolve().parents[1]


def reader(make: Callable[[], nn.Module], key_channels: int = TINY[0], value_channels: int = TINY[1]) -> bool:
    """Whether `make()` gives a memory reader that networks, training, weight files and pictures can use; prints one line.

    Tried on random memories: the shapes of score and readout; insides whose weights sum to one and whose weighted sum is the readout; memory
    frames in any order, and left as they were; a frame in blocks of rows against the same in one piece; a batch whose clips have frame numbers of
    their own against its clips one by one; XMem's shrinkage and selection; a gradient for every weight; `settings()` that build it again; and, where
    the channels are those of the small networks, a short clip with two objects in STCN, STM and XMem. All of it twice: with the weights it starts
    with, and with each moved by about 0.1, since a reader that starts as the identity may hide what is wrong with it. `make`: a class, or a function
    without arguments; readers whose answers differ from call to call are none. Source: ours.
    """
    trouble = trouble_of(make, key_channels, value_channels)
    networks = " in STCN, STM and XMem" if (key_channels, value_channels) == TINY else ""
    praise = f"it reads{networks}, trains, and can be built again from its settings"
    print(f"not yet: {trouble}" if trouble else f"passed: {praise}")
    return trouble is None


def identity(make: Callable[[], nn.Module]) -> bool:
    """Whether `make()` gives a reader that changes nothing in trained STCN, STM and XMem, as one must that starts warm; prints one line.

    Probabilities of a short clip, segmented by the shipped `stcn-tiny`, `stm-tiny` and `xmem-tiny`, against those with the network's own reader,
    within 1e-3. Source: ours.
    """
    clip = make_clip(1, "medium", 4, (64, 64))
    for name in ("stcn-tiny", "stm-tiny", "xmem-tiny"):
        try:
            with _same_draws():
                found = [
                    segment(network.eval(), clip.frames, {0: clip.index_masks[0]}, memory_every=1).probabilities
                    for network in (load(name), load(name, reader=make()))
                ]
            apart = float((found[0] - found[1]).abs().max())
            trouble = None if apart < 1e-3 else f"in {name} a probability changes by {apart:.2g}, expected nothing"
        except Exception as error:
            trouble = f"in {name} it {_raised(error)}"
        if trouble:
            print(f"not yet: {trouble}")
            return False
    print("passed: in STCN, STM and XMem it changes nothing")
    return True


def trouble_of(make: Callable[[], nn.Module], key_channels: int = TINY[0], value_channels: int = TINY[1]) -> str | None:
    """What `reader` finds wrong first, in a sentence; None where nothing is."""
    if isinstance(make, nn.Module):
        kind = type(make).__name__
        return f"a {kind} was given, expected what makes one: te.check.reader({kind}), or a function such as lambda: {kind}(...)"
    for moved in (False, True):
        for trial, doing in TRIALS.items():
            try:
                with _same_draws():
                    found = trial(lambda: _made(make, moved), key_channels, value_channels)
            except NotImplementedError:
                return "the function is still empty"
            except Exception as error:  # whatever the reader's code runs into is for its writer to see
                found = f"{doing} it {_raised(error)}" + _of_channels(make, key_channels, value_channels)
            if found:
                return found + (f" (with each of its weights moved by about {MOVED})" if moved else "")
        with _same_draws():
            if not list(make().parameters()):
                break
    return None


@contextmanager
def _same_draws() -> Iterator[None]:
    """Random numbers from one seed; the writer's own stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _made(make: Callable, moved: bool) -> nn.Module:
    one = make()
    if not isinstance(one, nn.Module):
        raise TypeError(f"makes a {type(one).__name__}, expected a torch.nn.Module")
    if moved:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in one.parameters():
                weight.add_(MOVED * torch.randn(weight.shape, generator=generator).to(weight))
    return one


def _of_channels(make: Callable, key_channels: int, value_channels: int) -> str:
    """A hint, where a reader says that it is made for other channels."""
    try:
        one = make()
        wanted = (getattr(one, "key_channels", key_channels), getattr(one, "value_channels", value_channels))
    except Exception:
        return ""
    if wanted == (key_channels, value_channels):
        return ""
    tried = f"it is made for {wanted[0]} and {wanted[1]} channels and tried with {key_channels} and {value_channels}"
    return f"; {tried}: give key_channels= and value_channels="


def _raised(error: Exception) -> str:
    """What went wrong, and the line of the writer's own code that it went wrong in."""
    lines = str(error).strip().splitlines() or ["no message"]
    why = f" {lines[-1].strip()}" if type(error).__name__ == "EinopsError" and len(lines) > 1 else ""
    own = [
        (Path(frame.f_code.co_filename).name, number)
        for frame, number in walk_tb(error.__traceback__)
        if HOME not in Path(frame.f_code.co_filename).parents and "site-packages" not in frame.f_code.co_filename
    ]
    where = f" ({own[-1][0]}, line {own[-1][1]})" if own and own[-1][0].endswith(".py") else ""
    return f"raises {type(error).__name__}: {lines[0]}{why}{where}"
