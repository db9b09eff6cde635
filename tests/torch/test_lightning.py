"""PyTorch Lightning: a real short run gives the records of the plain loop and leaves no hook."""

from __future__ import annotations

import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from gradlab_core.definitions.quantities import EXTRAS
from gradlab_core.errors import GradlabError
from gradlab_torch import Monitor
from gradlab_torch.integrations import lightning as of_lightning
from tests.torch.plain import ACCUMULATE, BATCHES, CLIP, EPOCHS, hooks, mean_square, new_net, new_optimizer, plain


class Module(lightning.LightningModule):
    def __init__(self, fails_at=None):
        super().__init__()
        self.net, self.fails_at = new_net(), fails_at

    def training_step(self, batch, index):
        if index == self.fails_at:
            raise ZeroDivisionError
        return mean_square(self.net, *batch)

    def configure_optimizers(self):
        self.optimizer = new_optimizer(self)
        return self.optimizer


def fit(folder, module, callback, **options):
    options = {"max_epochs": EPOCHS, "accumulate_grad_batches": ACCUMULATE, "gradient_clip_val": CLIP} | options
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, default_root_dir=folder, callbacks=[callback], **quiet, **options
    )
    trainer.fit(module, torch.utils.data.DataLoader(BATCHES, batch_size=None))
    return trainer


@pytest.mark.parametrize("every", [1, 4])
def test_lightning_gives_the_records_of_the_plain_loop(tmp_path, reads, every):
    records, module = [], Module()
    callback = of_lightning.MonitorCallback(every=every, extras=EXTRAS, on_record=records.append)
    fit(tmp_path, module, callback)
    assert reads == []
    options = {"every": every, "extras": EXTRAS}
    assert records == plain(lambda step: 1 / ACCUMULATE, Module(), **options)  # also in the last step of an epoch
    assert [r.step for r in records] == list(range(0, 6, every))
    assert records[-1] is callback.monitor.last
    assert any(r.clipped for r in records)
    assert hooks(module, module.optimizer) == 0
    assert list(tmp_path.iterdir()) == []
    for other in (lambda step: 1.0, lambda step: 1 / len(step)):  # planted: other weights, other records
        assert records != plain(other, Module(), **options)


def test_lightning_after_an_error(tmp_path):
    records, module = [], Module(fails_at=3)
    callback = of_lightning.MonitorCallback(on_record=records.append)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, module, callback)
    assert hooks(module, module.optimizer) == 0
    assert len(records) == 1
    module = Module()
    trainer = fit(tmp_path, module, callback, max_epochs=1)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, torch.utils.data.DataLoader(BATCHES, batch_size=None))
    assert [r.step for r in records[1:]] == [0, 1, 2, 3, 4, 5]  # a run that is continued counts on


def test_lightning_without_clipping_and_in_other_processes(tmp_path, monkeypatch):
    callback = of_lightning.MonitorCallback()
    fit(tmp_path, Module(), callback, gradient_clip_val=None, accumulate_grad_batches=1)
    assert (callback.monitor.last.raw_grad_norm, callback.monitor.last.clipped) == (None, None)
    monkeypatch.setattr(lightning.Trainer, "is_global_zero", False)
    second = of_lightning.MonitorCallback()
    fit(tmp_path, Module(), second)
    assert second.monitor is None


def test_lightning_with_a_gradient_scaler(tmp_path):
    """Half precision with a step that overflows: it is counted, and its loss is not added to the next one."""

    class Overflowing(Module):
        def training_step(self, batch, index):
            return mean_square(self.net, *batch) * (torch.inf if index == 2 else 1.0)

    def scaler():
        return torch.amp.GradScaler("cpu", init_scale=1024.0)

    records = []
    callback = of_lightning.MonitorCallback(on_record=records.append)
    precision = MixedPrecision("16-mixed", "cpu", scaler())
    fit(tmp_path, Overflowing(), callback, plugins=[precision], max_epochs=1)

    net, own, expected = Module(), scaler(), []
    optimizer = new_optimizer(net)
    with Monitor(net, optimizer, on_record=expected.append, scaler=own) as monitor:
        for step in (BATCHES[:2], [(torch.full((4, 3), torch.nan), BATCHES[3][1]), BATCHES[3]], BATCHES[4:]):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.half, cache_enabled=False):
                parts = [mean_square(net.net, *batch) / 2 for batch in step]
            for part in parts:
                own.scale(part).backward()
            own.unscale_(optimizer)
            monitor.before_clipping()
            torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            monitor.observe(sum(parts))
            own.step(optimizer)
            own.update()
        assert monitor.skipped_steps == 1
    assert len(records) == 2
    assert records == expected
    assert callback.monitor.skipped_steps == 1


def test_lightning_under_manual_optimization(tmp_path):
    class Manual(Module):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, index):
            optimizer, losses = self.optimizers(), []
            optimizer.zero_grad()
            for weight in (0.25, 0.75):
                losses.append(weight * mean_square(self.net, *batch))
                self.manual_backward(losses[-1])
            self.clip_gradients(optimizer, CLIP, "norm")
            optimizer.step()
            self.seen = float(sum(losses).detach())

    module, callback = Manual(), of_lightning.MonitorCallback()
    fit(tmp_path, module, callback, accumulate_grad_batches=1, gradient_clip_val=None)
    last = callback.monitor.last
    assert (last.step, last.loss, last.raw_grad_norm) == (9, pytest.approx(module.seen), None)

    class Several(Manual):
        def configure_optimizers(self):
            return new_optimizer(self.net[0]), new_optimizer(self.net[2])

    with pytest.raises(GradlabError, match="Several has 2 optimizers; expected 1: with several, put"):
        fit(tmp_path, Several(), of_lightning.MonitorCallback(), accumulate_grad_batches=1, gradient_clip_val=None)
