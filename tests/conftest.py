"What every test stands on."
import pytest
import torch


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
