"""One notebook in a process of its own that finds the libraries of others already imported.

A server imports them once and forks for each notebook: a fresh process and a fresh namespace every time, and our own
modules imported anew, so that what a notebook forgets to import fails as it would for a reader. Notebooks of the
torch trunk get a server without fastai, which changes tensors for whoever comes after it.
"""
import atexit
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = ['torch', 'numba', 'scipy.signal', 'soundfile', 'matplotlib.pyplot', 'fastcore.test', 'nbdev.test']
FASTAI = [*TORCH, 'fastai.basics', 'fastai.callback.all', 'fastai.data.all']
FIRST_OF_FASTAI = 20                                            # the number of the first notebook that may import it


def play(nb, log):
    "What `nbdev-test` does with one notebook, its words in `log`; whether every cell ran."
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for fd in (1, 2): os.dup2(out, fd)
    ours = [o for o in sys.modules if o.split('.')[0] == 'fastproaudio']
    if ours: raise RuntimeError(f'the notebook would find {ours} imported')
    from nbdev.config import get_config
    from nbdev.test import test_nb
    config = get_config(ROOT)
    os.chdir(config.nbs_path)
    flags = config.tst_flags
    flags = flags.split() if isinstance(flags, str) else flags
    return test_nb(nb, skip_flags=flags, basepath=config.config_path, cell_timeout=600)[0]


def serve(imports):
    "Read a notebook and a log a line, fork; write the process number, then how it ended and its CPU seconds."
    for o in imports: import_module(o)
    for line in sys.stdin:
        nb, log = line.rstrip('\n').split('\t')
        pid = os.fork()
        if not pid:
            done = False
            try: done = play(nb, log)
            except BaseException: traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(not done)
        print(pid, flush=True)
        _, status, used = os.wait4(pid, 0)
        print(os.waitstatus_to_exitcode(status), used.ru_utime+used.ru_stime, flush=True)


class Server:
    "A process that has imported what notebooks import."
    def __init__(self, imports):
        env = {**os.environ, 'MPLBACKEND': 'agg', 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
        self.process = subprocess.Popen([sys.executable, __file__, *imports], cwd=ROOT, env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        atexit.register(self.process.stdin.close)

    def run(self, nb, timeout_s=900):
        "How the notebook's process ended, the CPU seconds it took, and what it said."
        with tempfile.TemporaryDirectory() as tmp:
            log = Path(tmp)/'log.txt'
            self.process.stdin.write(f'{nb}\t{log}\n')
            self.process.stdin.flush()
            pid = int(self.process.stdout.readline())
            if not select.select([self.process.stdout], [], [], timeout_s)[0]: os.kill(pid, signal.SIGKILL)
            code, seconds = self.process.stdout.readline().split()
            return int(code), float(seconds), log.read_text(errors='replace') if log.exists() else ''


@cache
def server_for(is_fastai): return Server(FASTAI if is_fastai else TORCH)


def run_notebook(nb):
    "How it ended, 0: every cell ran; the CPU seconds it took; and what was said."
    number = nb.name[:2]
    return server_for(not number.isdigit() or int(number) >= FIRST_OF_FASTAI).run(nb)


if __name__ == '__main__': serve(sys.argv[1:])
