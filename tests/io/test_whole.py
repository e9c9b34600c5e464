"Writers leave all or nothing, whatever ends them; one run at a time works in a folder, and a dead one is taken over."
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from fastproaudio.whole import alone_in, whole_file, whole_folder, write_text

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='signals and limits of POSIX')

HALF = """
import sys, time
from fastproaudio.whole import whole_file, whole_folder
with whole_file(sys.argv[1]+'/a.txt') as a, whole_folder(sys.argv[1]+'/net') as b:
    a.write_text('half')
    (b/'weights.pt').write_text('half')
    print('writing', flush=True)
    time.sleep(60)
"""
HOLD = """
import sys, time
from fastproaudio.whole import alone_in
with alone_in(sys.argv[1]):
    print('in', flush=True)
    time.sleep(60)
"""


def started(code, *args):
    child = subprocess.Popen([sys.executable, '-c', code, *map(str, args)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline()
    return child


def killed(child):
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()


def test_what_a_killed_writer_leaves_is_swept_by_the_next(tmp_path):
    (tmp_path/'a.txt').write_text('before')
    child = started(HALF, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    killed(child)
    assert (tmp_path/'a.txt').read_text() == 'before' and not (tmp_path/'net').exists()
    write_text(tmp_path/'b.txt', 'new')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.txt', 'b.txt']


def test_what_a_living_writer_writes_is_left_alone(tmp_path):
    child = started(HALF, tmp_path)
    write_text(tmp_path/'b.txt', 'new')
    assert len(list(tmp_path.iterdir())) == 3
    killed(child)


def test_a_second_run_is_refused_by_name_and_a_dead_one_taken_over(tmp_path):
    child = started(HOLD, tmp_path/'amp')
    with pytest.raises(ValueError,
                       match=rf'amp: expected no other run in it, got process {child.pid} on .*; wait for it'):
        with alone_in(tmp_path/'amp'): pass
    killed(child)
    begun = time.time()
    with alone_in(tmp_path/'amp'): assert str(os.getpid()) in (tmp_path/'amp/.run').read_text()
    assert time.time()-begun < 5 and not (tmp_path/'amp/.run').exists()


def test_a_full_disk_names_the_path_and_keeps_what_was_there(tmp_path):
    import torch
    from fastproaudio.io import write_audio
    from fastproaudio.train.labels import write_labels
    writers = {'a.txt': lambda p: write_text(p, 'x'*1000), 'b.txt': lambda p: write_labels(p, [('a', 0, 1)]*100),
               'c.wav': lambda p: write_audio(p, torch.zeros(1, 5000), 8000)}
    def into_folder(p):
        with whole_folder(p.with_suffix('')) as tmp: torch.save(torch.zeros(5000), tmp/'weights.pt')
    writers['d.pt'] = into_folder
    for name in writers: (tmp_path/name).write_text('before')
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))
    said = {}
    try:
        for name, write in writers.items():
            try: write(tmp_path/name)
            except ValueError as e: said[name] = str(e)
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert set(said) == set(writers)
    for name, text in said.items():
        assert name.split('.')[0] in text and 'cannot be written' in text and '\n' not in text, text
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(writers, 'before')


def test_names_of_two_writers_differ(tmp_path):
    with whole_file(tmp_path/'a.txt') as a, whole_file(tmp_path/'a.txt') as b:
        assert a != b
        a.write_text('first')
        b.write_text('second')
    assert (tmp_path/'a.txt').read_text() in ('first', 'second') and len(list(tmp_path.iterdir())) == 1
