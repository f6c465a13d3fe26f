"""The words of the study: every closed set of names that tables, configs and code share.

They stand in one module that imports nothing, so that a table's column, a config field and a test spell a word the same way.
"""

from enum import StrEnum


class Category(StrEnum):
    """How well a model knows a fact, from the share p of right greedy answers over the prompts of a shot set."""

    HIGHLY_KNOWN = "HighlyKnown"  # p = 1
    MAYBE_KNOWN = "MaybeKnown"  # 0 < p < 1
    WEAKLY_KNOWN = "WeaklyKnown"  # p = 0, but right in a sampled answer (SliCK): told from Unknown only where answers were sampled
    UNKNOWN = "Unknown"  # p = 0

    @classmethod
    def of(cls, correct: int, asked: int) -> "Category":
        """The class of `correct` right greedy answers to `asked` prompts; raises ValueError outside 0 <= correct <= asked > 0."""
        if asked < 1 or not 0 <= correct <= asked:
            raise ValueError(f"correct = {correct} of asked = {asked}: expected 0 <= correct <= asked and asked >= 1")
        if correct == 0:
            return cls.UNKNOWN
        return cls.HIGHLY_KNOWN if correct == asked else cls.MAYBE_KNOWN


GREEDY_CATEGORIES = (Category.HIGHLY_KNOWN, Category.MAYBE_KNOWN, Category.UNKNOWN)
"""The classes that greedy answers tell apart: all that CATEGORIES and the shifts know."""


class Matcher(StrEnum):
    """When an answer counts as right; see kp.metrics.matching."""

    STRICT = "strict"
    EXACT = "exact"
    RELEASED = "released"


class ShotSet(StrEnum):
    """Disjoint sets of 10 prompts x 4 shots: S0 assigns the category, S1 measures, S2 and each further one measure the base again."""

    S0 = "S0"
    S1 = "S1"
    S2 = "S2"
    S3 = "S3"  # from here on only where `categorise.repeat_measurements` asks for them
    S4 = "S4"
    S5 = "S5"
    S6 = "S6"
    S7 = "S7"
    S8 = "S8"
    S9 = "S9"


class Engine(StrEnum):
    """What computes the answers; see kp.generation."""

    HF = "hf"  # transformers, with shared prompts
    VLLM = "vllm"  # in an environment of its own, for GPU clusters


class Leak(StrEnum):
    """How a shot gives a studied fact away."""

    QUESTION = "question"  # it asks the fact's question, or a paraphrase of it
    SUBJECT_AND_ANSWER = "subject_and_answer"  # its question names the fact's subject, and its answer is one of the fact's


class Role(StrEnum):
    """Why a row stands in a trial's training data."""

    UNKNOWN = "unknown"
    HIGHLY_KNOWN = "highly_known"
    MAYBE_KNOWN = "maybe_known"
    PARAPHRASE = "paraphrase"


class ParaphraseVerdict(StrEnum):
    """What became of a line in which a model was to ask a fact in another way; the rules of kp.facts.paraphrases go by this order."""

    KEPT = "kept"
    EMPTY = "empty"  # nothing is left once its number, bullet and quotes are off
    CUT_OFF = "cut_off"  # the reply ended in it, for want of tokens
    CONTROL_CHARACTER = "control_character"
    TOO_LONG = "too_long"
    NOT_A_QUESTION = "not_a_question"  # nor a request ("Name ...")
    COPY = "copy"  # of the question
    DUPLICATE = "duplicate"  # of a paraphrase that the fact has; both up to case, blanks, punctuation and articles
    SUBJECT_LOST = "subject_lost"
    ANSWER_GIVEN = "answer_given"  # an answer of the fact stands in it
    OTHER_FACT = "other_fact"  # another fact is asked so, too
    SURPLUS = "surplus"  # the fact has as many as were wanted


class ReplayTarget(StrEnum):
    """What a HighlyKnown or MaybeKnown training row teaches."""

    SELF = "self"  # the base model's own greedy answer to the first prompt of S0
    GOLD = "gold"  # the canonical answer
    FIRST_ALIAS = "first_alias"  # the first alias after the canonical answer, as the released code does; the answer where there is none


class Draw(StrEnum):
    """How the facts of a trial are drawn from their pool."""

    STRATIFIED = "stratified"  # seeded, round robin over relations, nested: the 10 are among the 40
    FILE_ORDER = "file_order"  # the first n rows, as the released code does; the seed changes nothing


class LossTokens(StrEnum):
    """Which tokens of a training row the loss is taken on."""

    ANSWER = "answer"
    FULL_TEXT = "full_text"


class Packing(StrEnum):
    """How the rows of a batch are put through the model."""

    PREFIX_TREE = "prefix_tree"  # what rows begin with in common is read once
    PADDED = "padded"  # every row whole, up to the longest


class RateSchedule(StrEnum):
    """How the learning rate moves after its warm-up."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant"


class Sampler(StrEnum):
    """Where the trials of a search come from."""

    GRID = "grid"  # every combination of the lists
    RANDOM = "random"
    OPTUNA = "optuna"  # by its TPE sampler, from what earlier trials reached


class Tracker(StrEnum):
    """Who else hears of a trial's epochs."""

    WANDB = "wandb"
    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"


class Scheduler(StrEnum):
    """Who stops a trial early, besides `stop_at_accuracy`."""

    NONE = "none"
    ASHA = "asha"


class TrialStatus(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"  # ran its epochs, or learned everything it was asked to
    STOPPED = "stopped"  # ended early by the scheduler
    DIVERGED = "diverged"  # a loss that is not finite
    FAILED = "failed"
    OUT_OF_MEMORY = "oom"


class Split(StrEnum):
    """What a measured fact is for, in a study that chooses and reports on different ones."""

    DEV = "dev"  # winners are chosen by it
    TEST = "test"  # and reported on it


class ShiftView(StrEnum):
    """The four ways a shift is reported (DESIGN: definitions)."""

    ALL = "all"  # over all measured facts, as the paper does
    AT_RISK = "at_risk"  # over the facts that could have moved that way
    UNTRAINED = "untrained"  # without the facts the trial trained on
    EXCESS = "excess"  # rate over all facts, minus the base's own rate between S1 and S2


BASE = "base"  # the trial_id of measurements taken without an adapter
NOISE = "noise"  # the trial_id of the base compared with itself
