"TorchScript of somebody else: however it is spelled, no operator on files runs, and what crashes does so in a child."
import itertools, json, random, shutil, warnings, zipfile

import pytest
import torch
from torch import nn

from fastproaudio.export import load_effect, save_network
from fastproaudio.export.audacity import make_metadata
from fastproaudio.export.script import load_script, refused_in_graph
from fastproaudio.models import TCN

torch.set_num_threads(1)
warnings.filterwarnings('ignore', message='.*torch.jit.*')


class Plain(nn.Module):
    "Two parts, a method beside forward, a getter, a setter and a function: places to hide in."
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Tanh())
        self.gain = 1.

    def forward(self, x: torch.Tensor): return self.inner(x)*helped(x)[:1]

    @torch.jit.export
    def reset(self): self.gain = 1.

    @torch.jit.export
    def get_gain(self) -> float: return self.gain

    @torch.jit.export
    def set_gain(self, v: float) -> int:
        self.gain = v
        return 0


def helped(x: torch.Tensor):
    if x.shape[-1] > 10**7: x = x*2
    return x*0+1


@pytest.fixture(scope='module')
def members(tmp_path_factory):
    p = tmp_path_factory.mktemp('good')/'a.pt'
    torch.jit.save(torch.jit.script(Plain()), p)
    with zipfile.ZipFile(p) as z: return {n: z.read(n) for n in z.namelist() if not n.endswith('debug_pkl')}


def write(members, path, change=lambda name, data: data):
    with zipfile.ZipFile(path, 'w') as z:
        for n, b in members.items(): z.writestr(n, change(n, b))
    return path


def spellings(marker):
    "Calls that write `marker`, in as many ways as the language has."
    gaps = ['', ' ', '  ', '\t']
    roots = ['torch{0}.{1}save', 'ops{0}.{1}aten{0}.{1}save', 'torch{0}.{1}autograd{0}.{1}save', '(torch{0}.{1}save)',
             '(ops.aten){0}.{1}save']
    for root, a, b, c in itertools.product(roots, gaps, gaps, gaps[:2]):
        yield f'{root.format(a, b)}{c}(torch.ones([3]), "{marker}")'
    yield f'(torch.ones([3])).save("{marker}")'
    yield f'getattr(torch, "save")(torch.ones([3]), "{marker}")'


def into(members, call, where):
    "The archive with a call as the first line of a method or function."
    def change(name, data):
        if not name.endswith('.py') or f'def {where}('.encode() not in data: return data
        lines = data.decode().split('\n')
        i = next(i for i, o in enumerate(lines) if o.strip().startswith(f'def {where}('))
        while not lines[i].rstrip().endswith(':'): i += 1
        pad = ' '*(len(lines[i+1])-len(lines[i+1].lstrip()))
        return '\n'.join([*lines[:i+1], pad+f'_bad = {call}', *lines[i+1:]]).encode()
    return {n: change(n, b) for n, b in members.items()}


PLACES = ['forward', 'reset', 'get_gain', 'set_gain', 'helped']


def test_the_archive_itself_is_played(members, tmp_path):
    p = write(members, tmp_path/'a.pt')
    assert load_script(p, (1, 100))(torch.zeros(1, 100)).shape == (1, 100)


def test_no_spelling_of_an_operator_on_files_is_played(members, tmp_path):
    marker = tmp_path/'victim.txt'
    marker.write_text('precious')
    calls = list(spellings(marker))
    assert len(calls) > 150
    for i, call in enumerate(calls):
        p = write(into(members, call, PLACES[i % len(PLACES)]), tmp_path/'x.pt')
        with pytest.raises(ValueError, match='sound and numbers only, got aten::.*trust=True') as e: load_script(p)
        assert '\n' not in str(e.value)
    assert marker.read_text() == 'precious'


@pytest.mark.parametrize('where', PLACES)
def test_the_loaded_graph_says_the_same_without_the_source(members, where, tmp_path):
    marker = tmp_path/'victim.txt'
    for call in (f'torch. save(torch.ones([3]), "{marker}")', f'ops.aten. save(torch.ones([3]), "{marker}")',
                 'ops.prim.Print(torch. from_file("/etc/passwd", False, 400, dtype=0))'):      # what is dead is removed
        p = write(into(members, call, where), tmp_path/'x.pt')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            graph = torch.jit.load(str(p))
        assert refused_in_graph(graph) in (['aten::save'], ['aten::from_file'])
    assert not marker.exists()


def test_whoever_trusts_gets_all(members, tmp_path):
    marker = tmp_path/'written.txt'
    p = write(into(members, f'torch.save(torch.ones([3]), "{marker}")', 'forward'), tmp_path/'x.pt')
    load_script(p, trust=True)(torch.zeros(1, 10))
    assert marker.exists()


def test_nothing_runs_while_it_loads(members, tmp_path):
    marker = tmp_path/'victim.txt'
    def change(name, data):
        if not name.endswith('.py') or b'class Plain' not in data: return data
        code = ('\n  def __setstate__(self, state: Tensor) -> NoneType:\n'
                f'    torch. save(state, "{marker}")\n    return None\n')
        return data.rstrip()+code.encode()
    with pytest.raises(ValueError, match='__setstate__'): load_script(write(members, tmp_path/'x.pt', change))
    assert not marker.exists()


def test_a_deep_pickle_is_refused_and_crashes_nobody(members, tmp_path):
    deep = b'\x80\x02'+b'('*200_000+b't'*200_000+b'.'
    for end in ('/data.pkl', '/constants.pkl'):
        p = write(members, tmp_path/'x.pt', lambda n, b, end=end: deep if n.endswith(end) else b)
        with pytest.raises(ValueError, match='at most 300 levels'): load_script(p)


def test_what_crashes_does_so_in_the_child(members, tmp_path, monkeypatch):
    from fastproaudio.export import script
    monkeypatch.setattr(script, 'check_script', lambda data: None)
    deep = b'\x80\x02'+b'('*200_000+b't'*200_000+b'.'
    p = write(members, tmp_path/'x.pt', lambda n, b: deep if n.endswith('/data.pkl') else b)
    with pytest.raises(ValueError, match='the child process ended with code'): load_script(p)
    assert load_script(write(members, tmp_path/'a.pt'), (1, 100)) is not None


def test_what_never_ends_is_ended(members, tmp_path, monkeypatch):
    from fastproaudio.export import script
    load_script(write(members, tmp_path/'a.pt'))                 # the child is up
    monkeypatch.setattr(script._judge, 'timeout_s', 4.)
    loop = '1\n    while torch.gt(_bad, 0):\n      _bad = torch.add(_bad, torch.numel(torch.ones([1])))'
    with pytest.raises(ValueError, match='was not done after 4 s'):
        load_script(write(into(members, loop, 'forward'), tmp_path/'x.pt'), (1, 100))


def test_our_own_network_is_played_and_never_the_torchscript_beside_it(members, tmp_path):
    torch.manual_seed(0)
    net = TCN(n_blocks=1, ks=3, channel_width=2).eval()
    save_network(net, tmp_path/'f', sr=48000)
    marker = tmp_path/'victim.txt'
    write(into(members, f'torch.save(torch.ones([3]), "{marker}")', 'forward'), tmp_path/'f/model.pt')
    (tmp_path/'f/metadata.json').write_text(json.dumps(make_metadata(48000, 'x', 1)))
    x = torch.randn(2, 500)
    effect = load_effect(tmp_path/'f')
    assert effect.sr == 48000 and torch.allclose(effect(x), net(x[:, None])[:, 0], atol=1e-6)
    assert not marker.exists()
    for name in ('network.json', 'weights.pt'): (tmp_path/'f'/name).unlink()
    with pytest.raises(ValueError, match='aten::save'): load_effect(tmp_path/'f')
    assert not marker.exists() and load_effect(tmp_path/'f', trust=True).sr == 48000
    shutil.rmtree(tmp_path/'f')


def test_random_programs_of_names_never_pass(members, tmp_path):
    "Names put together at random, one of them forbidden: refused, or the graph does not know it."
    rng = random.Random(0)
    bad = ['save', 'load', 'from_file', 'set_data', '_set_item.save']
    for _ in range(200):
        words = [rng.choice(['torch', 'ops.aten', 'ops.prim', 'torch.autograd', '(self)', 'x', 'CONSTANTS.c0'])]
        call = rng.choice([' ', '']).join([words[0], '.', rng.choice(bad)])+f'(x, "{tmp_path}/victim.txt")'
        p = write(into(members, call, rng.choice(['forward', 'helped'])), tmp_path/'x.pt')
        with pytest.raises(ValueError, match='that can be trusted'): load_script(p, (1, 64))
    assert not (tmp_path/'victim.txt').exists()
