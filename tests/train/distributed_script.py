"""An ordinary training script; test_distributed.py runs it alone and under torchrun. What it saw is written to a
file per process."""
import json, sys
from pathlib import Path

from fastproaudio.all import *

torch.set_num_threads(1)


class Look(Callback):
    "The chunks that were read, and the streams that went on."
    order = 6
    def __init__(self): self.read,self.on,self.batches,self._before = [],[],[],None
    def before_train(self): self.read.append([]); self._before = None
    def before_batch(self):
        if not self.training: return
        rows = list(self.xb[0].rows)
        self.read[-1] += [[str(p.name), int(s)] for p,s in self.dl.spans(rows)]
        if hasattr(self.dl, 'continues') and self._before:
            self.on.append(int(self.dl.continues(rows, self._before).sum()))
        self._before = rows
    def after_batch(self):
        if self.training: self.batches.append(float(self.learn.to_detach(self.loss.mean())))


def main(path, out, kinds, bs, resume=False):
    seen = {}
    for kind in kinds:
        set_seed(0)
        more = dict(bs=bs, seed=0, path=path/out/kind, device='cpu')
        if kind=='pairs':
            dls = AudioDataLoaders.from_pairs(path/'pairs', chunk_len=256, num_workers=2, **more)
            learn = effects_learner(dls, TCN(n_blocks=2, ks=3, channel_width=4), loss_func=nn.MSELoss())
        elif kind=='streams':
            dls = AudioDataLoaders.from_files(path/'pairs', n_tokens=16, chunk_len=128, **more)
            learn = autoregressive_learner(dls, SampleLSTM(hidden=8, n_tokens=16))
        else:
            dls = AudioDataLoaders.from_folder(path/'folders', valid_pct=.4,
                                               head=True, pad=True, chunk_len=2000, bs=bs, seed=0, device='cpu')
            net = nn.Sequential(nn.Conv1d(1, 8, 64, stride=8), nn.ReLU(), nn.AdaptiveAvgPool1d(1),
                                nn.Flatten(), nn.Linear(8, 2))   # no batch norm
            learn = classifier_learner(dls, net, augment=False, mixup=0, balance=0, path=path/out/kind)
        look = Look()
        kept = Checkpoint('run', resume=resume)
        with learn.distrib_ctx(), learn.no_logging():
            learn.fit_one_cycle(2, 5e-3, cbs=[look, kept, Listening(n=1, seconds=.05, to='folder')])
            values = [[float(o) for o in v] for v in learn.recorder.values]
            valid = [float(v) for v in learn.validate()]
            preds,targs = learn.get_preds()
        seen[kind] = dict(losses=look.batches, values=values, valid=valid, read=look.read, on=look.on,
                          weights=[float(p.detach().double().sum()) for p in learn.model.parameters()],
                          n_preds=len(preds), preds=float(cast(preds, Tensor).double().sum()),
                          plain=not hasattr(learn.model, 'module') and type(learn.dls.train) in (ChunkDL, StreamDL))
    (path/f'{out}_{rank_distrib()}.json').write_text(json.dumps(seen))


if __name__=='__main__':
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[4].split(','), int(sys.argv[3]), resume='--resume' in sys.argv)
