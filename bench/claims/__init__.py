"""The published efficiency claims as data, and for each a judge: records in, a verdict with its numbers out.

published: the figures; verdict: the types; compare: like with like; measured: what a record measured; forecast: the
peak that a plan predicts; table, steps, speed, alignment, base_model, rewards, backbones: the judges.

Intervals in verdicts are 95% intervals over seeds, by Student's t (bench.alignment.reading.over_seeds).
"""

from collections.abc import Sequence

from bench import cases
from bench.claims.alignment import judge_alignment
from bench.claims.backbones import judge_backbones
from bench.claims.base_model import judge_chain, judge_similarity
from bench.claims.published import CHAINS, EXTENDED, PAPER, PUBLISHED
from bench.claims.rewards import judge_noise_aware, judge_spl
from bench.claims.speed import judge_speed
from bench.claims.steps import judge_growth, judge_trained_steps
from bench.claims.table import judge_additional_memory, judge_peaks, judge_saving
from bench.claims.verdict import Claim, NotJudgedError, Outcome, Verdict
from bench.records import Record

REPORT_COMMAND = "python -m bench.report run.json"


def command(choice: str, mark: str = "memory") -> str:
    """The shell line that measures a choice of cases and reports on them."""
    return f"pytest bench/ -m {mark} {choice} --benchmark-json=run.json && {REPORT_COMMAND}".replace("  ", " ")


def _methods(*specs: str) -> str:
    return " ".join(f"--method {spec}" for spec in specs)


ALIGN_COMMAND = f"pytest bench/ -m alignment --align full --benchmark-json=run.json && {REPORT_COMMAND}"
PUBLISHED_WORLD = "--align-world published:FOLDER"
"""What makes a run of the alignment benchmark, or of a study, one of the published models and data."""


def base_studies(choice: str = "") -> str:
    """The shell line that runs the studies of the base model and reports on them."""
    return f"pytest bench/test_studies.py {choice} --benchmark-json=run.json && {REPORT_COMMAND}".replace("  ", " ")


def study_command(*names: str) -> str:
    """The shell line that runs studies of bench.alignment.studies.TRAINED and reports on them."""
    return command(" ".join(f"--study {name}" for name in names), "study")


CLAIMS = (
    Claim(
        "C1",
        "EasyTune needs 31.16% of DRaFT-50's additional memory",
        PAPER,
        "(22.10 - 15.21) / (37.32 - 15.21). What the base of 15.21 contains is not said: the ratio hangs on it.",
        command("--matrix published --profile paper --profile frozen"),
        judge_additional_memory,
    ),
    Claim(
        "C2",
        "The peaks on MLD: DRaFT-50 37.32 GB, AlignProp 30.40, DRTune 27.01, EasyTune 22.10 (chain 24.21), base 15.21",
        PAPER,
        "nvidia-smi or the allocator, 10⁹ or 2³⁰ bytes, with the backward pass or without: not said; nor how many "
        "steps AlignProp and DRTune train.",
        command(_methods(*PUBLISHED, *CHAINS)),
        judge_peaks,
    ),
    Claim(
        "C3",
        "EasyTune trains 7.3× faster than DRaFT-50",
        PAPER,
        "Per what is not said: per optimiser step, per update, or time to a given reward.",
        command("", "step_time"),
        judge_speed,
        settles=command("--meter cuda --time-batch 256", "step_time"),
    ),
    Claim(
        "C4",
        "8.2% better MM-Dist than DRaFT-50; better R-Precision and FID than all three baselines",
        PAPER,
        "(2.872 - 2.637) / 2.872. At equal trajectories: MM-Dist against DRaFT-T, R@1 and FID against all.",
        ALIGN_COMMAND,
        judge_alignment,
        settles=command(f"--align full {PUBLISHED_WORLD}", "alignment"),
    ),
    Claim(
        "C5",
        "Memory of DRaFT, AlignProp and DRTune grows linearly with the denoising steps; EasyTune's is flat",
        f"{PAPER}, figure 6",
        "How many steps AlignProp and DRTune train at each T is not said; here half and a fifth of them.",
        command("--matrix steps"),
        judge_growth,
    ),
    Claim(
        "C6",
        "The chain coefficient ∏ ∂π(x_s)/∂x_s goes to zero for early steps, so they are hardly optimised",
        f"{PAPER}, figure 3",
        "Corollary 1 gives the decomposition, Corollary 2 EasyTune's single term.",
        base_studies(),
        judge_chain,
        settles=base_studies(PUBLISHED_WORLD),
    ),
    Claim(
        "C7",
        "Noisy motions stay similar to the clean ones, so that a step can be scored",
        f"{PAPER}, figure 4",
        "Similar by which measure hangs on the retrieval model.",
        base_studies(),
        judge_similarity,
        settles=base_studies(PUBLISHED_WORLD),
    ),
    Claim(
        "C8",
        "The noise-aware reward beats the one-step prediction: R-Precision top-1 0.581 against 0.568",
        PAPER,
        "On MLD. ODE samplers may use x̂_0; SDE samplers need the noise-aware reward. Here by window as well.",
        study_command("windows"),
        judge_noise_aware,
        settles=command(f"--study windows {PUBLISHED_WORLD}", "study"),
    ),
    Claim(
        "C9",
        "Self-refinement preference learning lifts text-motion retrieval: HumanML3D R@1 +2.5%, KIT-ML R@5 +2.2%",
        PAPER,
        "Over ReAlign's retrieval model, top-K = 10. Not said: points or per cent, and whether against as many steps "
        "without it; here points, and against those.",
        study_command("spl"),
        judge_spl,
        settles=command(f"--study spl {PUBLISHED_WORLD}", "study"),
    ),
    Claim(
        "C10",
        "It holds across six pre-trained diffusion models",
        PAPER,
        "MLD, MLD++, MotionLCM and MDM among them. Here less memory and fewer FLOPs than DRaFT count, at the steps "
        "that each is published with.",
        command("--matrix backbones"),
        judge_backbones,
    ),
    Claim(
        "C11",
        "The fine-tuned MLD saves up to 15.22 GB against DRaFT, at a peak of 22.10 GB",
        EXTENDED,
        "37.32 - 22.10: independent of what the base contains.",
        command("--matrix published"),
        judge_saving,
    ),
    Claim(
        "C12",
        "DRTune stops the gradient at the denoiser's input, yet its memory grows with the steps it trains",
        PAPER,
        "Its update keeps ∂x_t/∂θ of every trained step.",
        command(_methods(*(case.method for case in cases.trained()), "draft", "draft:k=1")),
        judge_trained_steps,
    ),
)


def judge(records: Sequence[Record]) -> list[Verdict]:
    """A verdict on every claim, in their order."""
    return [_verdict(claim, records) for claim in CLAIMS]


def _verdict(claim: Claim, records: Sequence[Record]) -> Verdict:
    try:
        return claim.judge(records)
    except NotJudgedError as missing:
        return Verdict(claim.id, Outcome.NOT_JUDGED, str(missing))


__all__ = ["CLAIMS", "Claim", "Outcome", "Verdict", "command", "judge", "study_command"]
