"""What changes from step to step: the network, its average, the optimiser; and how it is saved and taken up again."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sarwater.classes import LAND
from sarwater.errors import CheckpointInvalid, UsageError
from train.loop.optimise import learning_rate, make_optimiser, update_average
from train.loop.plan import Plan, differing_option
from train.models import Segmenter
from train.models.checkpoint import Checkpoint, halfway, load_checkpoint, save_checkpoint
from train.models.initialise import Report, initialise
from train.scoring.scores import Scores

LEVEL_FIRST = 0.5
"""Share of the steps in which the level alone is learned, in decibels, where --init does not tell it yet; in the
others, what it is good for, too."""
LEVEL_LAND = 0.1
"""Share of a crop that is land from which on its level can be told."""
LEVEL_WEIGHT = 0.03
"""Then, of its squared error beside the loss of the answer: scenes that tell their level profit little from it, and a
sea, which does not, would lose all by a wrong guess."""


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
        fresh = self.init_report.fresh if self.init_report else ()
        self.level_first = any(name.startswith("level.") for name in fresh)
        """Whether the level is learned from nothing, and so at first alone."""
        self._begun = _begun(plan) if plan.options.halfway else None
        if plan.options.part != "all":
            for name, parameter in self.segmenter.net.named_parameters():
                parameter.requires_grad_(name.startswith(f"{plan.options.part}."))
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
            self.level_first = last.resume.get("level_first", True)
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
        if plan.options.frozen_norm or plan.options.part != "all":
            for module in self.segmenter.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        pixels = pixels.to(plan.device, non_blocking=True, memory_format=torch.channels_last)
        loss = self._level_loss(pixels, truth) if plan.options.part == "level" else self._loss(pixels, truth)
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

    def _loss(self, pixels: Tensor, truth: Tensor) -> Tensor:
        with self._autocast():
            logits = self._network(pixels)
        return self.plan.loss(logits, truth.to(self.plan.device, non_blocking=True))

    def _level_loss(self, pixels: Tensor, truth: Tensor) -> Tensor:
        """With amplitudes whose level is varied here, crop by crop, so that what is to be estimated is known."""
        options, team = self.plan.options, self.plan.team
        # The same for a resumed run, and another for each process.
        generator = torch.Generator().manual_seed((options.seed * 2**20 + self.step) * team.size + team.rank)
        gain_db = (2 * torch.rand(len(pixels), 1, 1, 1, generator=generator) - 1) * options.gain_db
        gain_db = gain_db.to(self.plan.device)
        amplitudes = torch.tensor([norm.decibel for norm in self.plan.arch.normalisation], device=self.plan.device)
        pixels = pixels * torch.where(amplitudes[:, None, None], 10 ** (gain_db / 20), 1.0)
        with self._autocast():
            off_db = self._network(pixels, level=True)
        known = level_known(truth.to(self.plan.device))
        if self.level_first and self.step < LEVEL_FIRST * self.plan.steps:
            # A sea has a level of its own: it is left as it is, for a guess would make land of it.
            return (off_db.float() - known * gain_db).square().mean()
        error = known * (off_db.float() - gain_db).square()
        return self._loss(pixels, truth) + LEVEL_WEIGHT * error.mean()

    def _autocast(self) -> torch.autocast:
        plan = self.plan
        return torch.autocast(plan.device.type, plan.precision, enabled=plan.precision != torch.float32)

    @property
    def kept(self) -> Checkpoint:
        """The weights that are scored and saved: their average, or the mean of that and --init."""
        options = self.plan.options
        average = Checkpoint(
            self.plan.arch, self.average.net.state_dict(), options.threshold, coarsest_m=options.coarsest_m or None
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
            "level_first": self.level_first,
        }
        save_checkpoint(plan.out / "last.pt", replace(checkpoint, resume=resume))


def _placed(segmenter: Segmenter, plan: Plan) -> Segmenter:
    """On the plan's device, in the layout in which convolutions are fastest."""
    return segmenter.to(plan.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def level_known(truth: Tensor) -> Tensor:
    """How far the level of each crop can be told from its land, 0 to 1, (N, 1, 1, 1), by the truth, (N, H, W)."""
    land = (truth == LAND).float().mean(dim=(1, 2))[:, None, None, None]
    return (land / LEVEL_LAND).clamp(max=1)


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
    """The segmenter's logits, or its estimate of the level, as a module's forward: that is what
    DistributedDataParallel wraps."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, raw: Tensor, *, level: bool = False) -> Tensor:
        return self.segmenter.off_level_db(raw) if level else self.segmenter.logits(raw)


def _joined(segmenter: Segmenter, plan: Plan) -> nn.Module:
    """The network to call in training: among several processes, one whose gradients are averaged over all."""
    network = _Logits(segmenter)
    if plan.team.size == 1:
        return network
    on_gpu = plan.device.type == "cuda"
    if on_gpu:  # batch statistics over all processes; PyTorch has it for GPUs alone
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return nn.parallel.DistributedDataParallel(network, device_ids=[plan.device.index] if on_gpu else None)
