"""What changes from step to step: the network, its average, the optimiser; and how it is saved and taken up again."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sarwater.errors import CheckpointInvalid, UsageError
from train.loop.optimise import learning_rate, make_optimiser, update_average
from train.loop.plan import Plan, differing_option
from train.models import Segmenter
from train.models.checkpoint import Checkpoint, halfway, load_checkpoint, save_checkpoint
from train.models.initialise import Report, initialise
from train.scoring.scores import Scores


class TrainingRun:
    """A run at one step, on the plan's device: fresh, started from --init, or resumed from last.pt.

    Raises CheckpointInvalid for files that do not fit, UsageError for a run that cannot be resumed.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.step = 0
        """Updates done."""
        self.best_iou = -1.0
        self.stale_evaluations = 0
        """In a row, since the held-out score was last the best."""
        last = _last_checkpoint(plan)
        torch.manual_seed(plan.options.seed)
        self.segmenter = Segmenter(plan.arch)
        self.init_report: Report | None = None
        if plan.options.init and last is None:
            self.init_report = initialise(self.segmenter, plan.options.init)
        self._begun = _begun(plan) if plan.options.halfway else None
        _placed(self.segmenter, plan)
        self.average = _placed(Segmenter(plan.arch), plan)
        self.average.load_state_dict(self.segmenter.state_dict())
        self.average.eval().requires_grad_(False)
        self.optimiser = make_optimiser(self.segmenter, plan.options)
        self.scaler = torch.amp.GradScaler(plan.device.type, enabled=plan.precision == torch.float16)
        if last is not None and last.resume is not None:
            self.segmenter.net.load_state_dict(last.resume["net"])
            self.average.net.load_state_dict(last.resume.get("average", last.state_dict))
            self.optimiser.load_state_dict(last.resume["optimiser"])
            self.scaler.load_state_dict(last.resume["scaler"])
            self.step, self.best_iou = last.resume["step"], last.resume["best_iou"]
            self.stale_evaluations = last.resume.get("stale_evaluations", 0)  # files of 0.1.0 lack it
        self._network = _joined(self.segmenter, plan)
        self._loss_sum = torch.zeros((), device=plan.device)
        self._loss_steps = 0

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return learning_rate(self.step, self.plan.steps, self.plan.options)

    def update(self, pixels: Tensor, truth: Tensor) -> None:
        """One step: pixels (N, C, H, W) float32 and truth (N, H, W) uint8, from any device."""
        plan = self.plan
        self.segmenter.train()
        if plan.options.frozen_norm:
            for module in self.segmenter.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        pixels = pixels.to(plan.device, non_blocking=True, memory_format=torch.channels_last)
        with torch.autocast(plan.device.type, plan.precision, enabled=plan.precision != torch.float32):
            logits = self._network(pixels)
        loss = plan.loss(logits, truth.to(plan.device, non_blocking=True))
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if plan.options.clip:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.segmenter.parameters(), plan.options.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        update_average(self.average, self.segmenter, self.step, plan.options.ema)
        self._loss_sum += loss.detach()
        self._loss_steps += 1
        self.step += 1

    @property
    def kept(self) -> Checkpoint:
        """The weights that are scored and saved: their average, or the mean of that and --init."""
        options = self.plan.options
        average = Checkpoint(
            self.plan.arch,
            self.average.net.state_dict(),
            options.threshold,
            coarsest_m=options.coarsest_m or None,
            level_db=options.level_db,
        )
        return halfway(self._begun, average) if self._begun else average

    @property
    def scored(self) -> Segmenter:
        """The network with those weights, on the plan's device."""
        if self._begun is None:
            return self.average
        return _placed(self.kept.segmenter(), self.plan)

    def take_mean_loss(self) -> float:
        """Over the steps since it was last taken, and all processes. Here the CPU waits for the GPU."""
        mean = float(self.plan.team.sum(self._loss_sum) / (self._loss_steps * self.plan.team.size))
        self._loss_sum.zero_()
        self._loss_steps = 0
        return mean

    def judge(self, scores: Scores | None) -> bool:
        """Whether the weights are the best so far by the held-out score; always so where nothing is held out."""
        better = scores is None or scores.pooled_iou > self.best_iou
        self.best_iou = scores.pooled_iou if scores and better else self.best_iou
        self.stale_evaluations = 0 if better else self.stale_evaluations + 1
        return better

    @property
    def exhausted(self) -> bool:
        """True where --patience says that going on is of no use."""
        return 0 < self.plan.options.patience <= self.stale_evaluations

    def save(self, scores: Scores | None, *, best: bool) -> None:
        """best.pt where these weights are the best so far, then last.pt. Raises OutputError."""
        plan = self.plan
        metrics = {"held_out": scores.to_dict()} if scores else {}
        training = {**plan.provenance, "step": self.step, "metrics": metrics}
        if self._begun and plan.options.init:
            training["averaged_with"] = plan.options.init.name
        checkpoint = replace(self.kept, training=training)
        if best:
            save_checkpoint(plan.out / "best.pt", checkpoint)
        resume = {
            "net": self.segmenter.net.state_dict(),
            **({"average": self.average.net.state_dict()} if self._begun else {}),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "best_iou": self.best_iou,
            "stale_evaluations": self.stale_evaluations,
        }
        save_checkpoint(plan.out / "last.pt", replace(checkpoint, resume=resume))


def _placed(segmenter: Segmenter, plan: Plan) -> Segmenter:
    """On the plan's device, in the layout in which convolutions are fastest."""
    return segmenter.to(plan.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _begun(plan: Plan) -> Checkpoint:
    """--init as this run's network holds it."""
    assert plan.options.init is not None
    torch.manual_seed(plan.options.seed)  # what starts fresh is as it was for the run
    segmenter = Segmenter(plan.arch)
    initialise(segmenter, plan.options.init)
    return Checkpoint(plan.arch, segmenter.to(plan.device).net.state_dict())


def _last_checkpoint(plan: Plan) -> Checkpoint | None:
    """The checkpoint to go on from; None to begin at the beginning."""
    path = plan.out / "last.pt"
    if not plan.options.resume:
        if path.exists():
            raise UsageError(f"{plan.out}: holds a run already; --resume goes on with it, or choose another --out")
        return None
    if not path.exists():
        if (plan.out / "options.json").exists():
            return None  # it was ended before its first checkpoint
        raise UsageError(f"{plan.out}: no run to resume; leave out --resume to begin one")
    last = load_checkpoint(path)
    if last.architecture != plan.arch:
        raise CheckpointInvalid(f"{path}: a checkpoint of {last.architecture.name}, expected {plan.arch.name}")
    if last.resume is None:
        raise CheckpointInvalid(f"{path}: holds weights only and cannot be resumed; start from it with --init")
    if difference := differing_option(plan.provenance["options"], last.training["options"]):
        raise UsageError(f"{path}: --resume goes on with the same options; {difference}")
    return last


class _Logits(nn.Module):
    """The segmenter's logits as a module's forward: that is what DistributedDataParallel wraps."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, raw: Tensor) -> Tensor:
        return self.segmenter.logits(raw)


def _joined(segmenter: Segmenter, plan: Plan) -> nn.Module:
    """The network to call in training: among several processes, one whose gradients are averaged over all."""
    network = _Logits(segmenter)
    if plan.team.size == 1:
        return network
    on_gpu = plan.device.type == "cuda"
    if on_gpu:  # batch statistics over all processes; PyTorch has it for GPUs alone
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return nn.parallel.DistributedDataParallel(network, device_ids=[plan.device.index] if on_gpu else None)
