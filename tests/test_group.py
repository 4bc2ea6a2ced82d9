"""Processes that exchange: `ict_lib.group`. What a training does with it is in test_training_launch.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ict_lib.group import PATIENCE, STUCK, Alone
from tests.test_slurm import free_port

ROOT = Path(__file__).resolve().parents[1]
# What each of three processes does; the second is on SLURM's first machine, so that it has rank 0.
CODE = """
import json, sys, time
from datetime import timedelta
import torch
from ict_lib import group
from ict_lib.objective import LossOutput
from ict_lib.recipe import CT
from ict_lib.scale.cost import LiveBytes
from ict_lib.training import Learner

group.STUCK = timedelta(seconds=10)
print("loaded", flush=True)
input()
mine = group.Group("gloo")
said = {"rank": mine.rank, "processes": mine.processes}

def say(**words):
    said.update(words)

state = None
if mine.rank == 0:
    image = torch.arange(24.0).view(1, 2, 3, 4)
    state = {"a": [image.to(memory_format=torch.channels_last), torch.tensor(7), torch.tensor([0.1])]}
    state["b"] = {3: (torch.tensor([True, False]), None, "text", 1e-300), "empty": torch.empty(0)}
shared = mine.share(state)
say(layout=shared["a"][0].stride())
say(shared=repr(shared), again=mine.share("only rank 0 says this" if mine.rank == 0 else "nobody hears this"))
say(gathered=[part.tolist() for part in mine.gather(torch.tensor([10 + mine.rank], dtype=torch.uint8))])

mine.asked = 15 if mine.rank == 2 else 0
image = torch.arange(24.0).view(1, 2, 3, 4).to(memory_format=torch.channels_last)
tensors = [torch.tensor(0.5), image * 10**mine.rank, torch.full((1000,), 2.0**mine.rank)]
with LiveBytes() as made:
    mine.add_up(tensors)
say(sums=[tensor.tolist() for tensor in tensors], strides=tensors[1].stride(), agreed=mine.agreed(), made=made.most)

learner = Learner(torch.nn.Linear(3, 2), CT)
learner.load(mine.share(learner.state()))
learner.compare(mine)
if mine.rank == 2:
    with torch.no_grad():
        learner.average.weight[1, 2] = torch.nextafter(learner.average.weight[1, 2], torch.tensor(9.0))
try:
    learner.compare(mine)
except RuntimeError as error:
    say(compared=str(error))

if mine.rank == 0:
    time.sleep(14)  # it measures
mine.wait()
say(waited=True)
if mine.rank > 0:
    started = time.monotonic()
    try:
        mine.extremes(0, 1)
    except group.LostContact as error:
        say(lost=str(error))
print(json.dumps(said), flush=True)
if mine.rank == 0:
    time.sleep(300)  # stuck
"""


@pytest.fixture(scope="module")
def said():
    """What each of three processes says, in the order of their ranks; the first is stuck at the end, and killed."""
    port, processes = str(free_port()), []
    for number, machine in enumerate(("1", "0", "2")):
        environment = {"RANK": str(number), "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment |= {"SLURM_NODEID": machine, "OMP_NUM_THREADS": "1"}
        words, pipes = [sys.executable, "-c", CODE], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(words, cwd=ROOT, env=os.environ | environment, **pipes))
    for process in processes:
        assert process.stdout.readline() == "loaded\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    left = [processes[number].communicate(timeout=200)[0] for number in (0, 2)]
    left.append(processes[1].stdout.readline())
    assert processes[1].poll() is None
    processes[1].kill()
    processes[1].communicate()
    third, second, first = (json.loads(text) for text in left)
    return first, second, third


pytestmark = pytest.mark.slow


def test_rank_0_is_on_the_first_machine_whatever_number_torchrun_gave_it(said):
    assert [(one["rank"], one["processes"]) for one in said] == [(0, 3), (1, 3), (2, 3)]


def test_all_get_what_rank_0_has_whatever_its_form(said):
    image = torch.arange(24.0).view(1, 2, 3, 4)
    state = {"a": [image, torch.tensor(7), torch.tensor([0.1])]}
    state["b"] = {3: (torch.tensor([True, False]), None, "text", 1e-300), "empty": torch.empty(0)}
    for one in said:
        assert one["shared"] == repr(state)
        assert one["layout"] == list(image.to(memory_format=torch.channels_last).stride())  # RAdam's moments too
        assert one["again"] == "only rank 0 says this"


def test_only_rank_0_gathers(said):
    assert [one["gathered"] for one in said] == [[[10], [11], [12]], [], []]


def test_all_have_the_sums_and_know_that_one_was_asked_to_stop(said):
    image = torch.arange(24.0).view(1, 2, 3, 4).to(memory_format=torch.channels_last)
    for one in said:
        assert one["sums"] == [1.5, (111 * image).tolist(), [7.0] * 1000]
        assert one["strides"] == list(image.stride())
        assert one["agreed"] is True


def test_what_is_added_up_is_not_copied(said):
    """Only the number that says who was asked to stop is made."""
    assert [one["made"] for one in said] == [4, 4, 4]


def test_one_bit_of_one_process_is_noticed_by_all(said):
    for one in said:
        assert one["compared"].startswith("the processes differ in their weights: checksums from ")


def test_one_that_measures_is_waited_for_and_one_that_is_stuck_is_given_up(said):
    assert STUCK.total_seconds() == 15 * 60
    assert PATIENCE > 4 * STUCK
    assert all(one["waited"] for one in said)
    assert ["lost contact" in one.get("lost", "") for one in said] == [False, True, True]


def test_one_that_is_alone_has_all_already():
    state = {"a": torch.ones(3)}
    assert Alone().share(state) is state
    assert Alone().gather(state["a"]) == [state["a"]]
    assert Alone().wait() is None
