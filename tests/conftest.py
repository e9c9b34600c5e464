"""What every test stands on, and which tests are quick: `pytest --quick`, under 90 s on two idle cores."""
import pytest
import torch

QUICK_FILES = ['test_house.py', 'test_notebooks.py', 'test_io.py', 'test_losses.py', 'test_models.py']
QUICK_NETWORKS = ['own', 'tcn_knobs', 'unet_causal', 'wavenet', 'sidechain_lstm', 'lstm'] # A kind of network each
SLOW_TESTS = ['test_compile_equals_eager', 'test_generated_code_equals_eager', 'test_long_stream_equals_offline',
              'test_script_equals_eager_and_streams']
SLOW_NOTEBOOKS = [ # 3 s and more of CPU time, measured
    '10b_models.model', '11d_live.player', '12b_generate.numba_engine', '12f_generate.sampler', '14h_pairs.check',
    '15j_export.nam', '15k_export.nn_tilde', '15l_export.graph', '15m_export.torch_export']


def is_quick(item):
    "Whether it is part of the quick tests: what a small change breaks most often."
    if getattr(item, 'originalname', item.name) in SLOW_TESTS: return False
    given = getattr(getattr(item, 'callspec', None), 'params', {})
    if 'nb' in given: return given['nb'].stem not in SLOW_NOTEBOOKS
    return given.get('model', QUICK_NETWORKS[0]) in QUICK_NETWORKS


def pytest_addoption(parser):
    parser.addoption('--quick', action='store_true', help='only the quick tests')


def pytest_ignore_collect(collection_path, config):
    name = collection_path.name
    return True if config.getoption('quick') and name.startswith('test_') and name not in QUICK_FILES else None


def pytest_collection_modifyitems(config, items):
    if not config.getoption('quick'): return
    slow = [o for o in items if not is_quick(o)]
    config.hook.pytest_deselected(items=slow)
    items[:] = [o for o in items if is_quick(o)]


@pytest.fixture(autouse=True, scope='session')
def one_thread():
    "Small tensors on one thread: several wait for each other on a busy machine."
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(autouse=True)
def one_thread_again():
    "A test that asks for more threads, or fails while it has them, does not hand them on."
    yield
    torch.set_num_threads(1)
