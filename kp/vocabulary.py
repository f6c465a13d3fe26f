"""The vocabulary: every closed set of names that tables, configs and code share.

The names are in one module that imports nothing, so that a table's column, a config field and a test spell a name the same way.
"""

from enum import StrEnum


class Category(StrEnum):
    """How well a model knows a fact, from the share p of right greedy answers over the prompts of a shot set."""

    HIGHLY_KNOWN = "HighlyKnown"  # p = 1
    MAYBE_KNOWN = "MaybeKnown"  # 0 < p < 1
    WEAKLY_KNOWN = "WeaklyKnown"  # p = 0, but a sampled answer is right (SliCK): distinguished from Unknown only if answers were sampled
    UNKNOWN = "Unknown"  # p = 0

    @classmethod
    def of(cls, correct: int, asked: int) -> "Category":
        """The category for `correct` right greedy answers out of `asked`; raises ValueError unless 0 <= correct <= asked > 0."""
        if asked < 1 or not 0 <= correct <= asked:
            raise ValueError(f"correct = {correct} of asked = {asked}: expected 0 <= correct <= asked and asked >= 1")
        if correct == 0:
            return cls.UNKNOWN
        return cls.HIGHLY_KNOWN if correct == asked else cls.MAYBE_KNOWN


KNOWN_CATEGORIES = (Category.HIGHLY_KNOWN, Category.MAYBE_KNOWN)
"""What greedy answers show to be known, and can be lost."""

GREEDY_CATEGORIES = (Category.HIGHLY_KNOWN, Category.MAYBE_KNOWN, Category.UNKNOWN)
"""The categories that greedy answers distinguish: the only ones in CATEGORIES and in shifts."""


class Matcher(StrEnum):
    """When an answer counts as right; see kp.metrics.matching."""

    STRICT = "strict"
    EXACT = "exact"
    RELEASED = "released"


UNSPECIFIED = "unspecified"
"""The relation of facts whose source names none."""


class ShotSet(StrEnum):
    """Disjoint sets of 10 prompts x 4 shots: S0 assigns the category, S1 measures, S2 and all further ones measure the base again."""

    S0 = "S0"
    S1 = "S1"
    S2 = "S2"
    S3 = "S3"  # from here on only if `categorise.repeat_measurements` requests them
    S4 = "S4"
    S5 = "S5"
    S6 = "S6"
    S7 = "S7"
    S8 = "S8"
    S9 = "S9"


class Engine(StrEnum):
    """What computes the answers; see kp.generation."""

    HF = "hf"  # transformers, with shared prompts
    VLLM = "vllm"  # in its own environment, for GPU clusters


class Leak(StrEnum):
    """How a shot leaks a studied fact."""

    QUESTION = "question"  # it asks the fact's question, or a paraphrase of it
    SUBJECT_AND_ANSWER = "subject_and_answer"  # its question names the fact's subject, and its answer is one of the fact's


class Role(StrEnum):
    """Why a row is in a trial's training data."""

    UNKNOWN = "unknown"
    HIGHLY_KNOWN = "highly_known"
    MAYBE_KNOWN = "maybe_known"
    PARAPHRASE = "paraphrase"


class ParaphraseVerdict(StrEnum):
    """The verdict on a line in which a model had to paraphrase a question; the rules of kp.facts.paraphrases apply in this order."""

    KEPT = "kept"
    EMPTY = "empty"  # nothing is left without its number, bullet and quotes
    CUT_OFF = "cut_off"  # the reply ended in it, at the token limit
    CONTROL_CHARACTER = "control_character"
    TOO_LONG = "too_long"
    NOT_A_QUESTION = "not_a_question"  # nor a request ("Name ...")
    COPY = "copy"  # of the question
    DUPLICATE = "duplicate"  # of a paraphrase that the fact has; both ignore case, blanks, punctuation and articles
    SUBJECT_LOST = "subject_lost"
    ANSWER_GIVEN = "answer_given"  # it contains an answer of the fact
    OTHER_FACT = "other_fact"  # another fact is also asked this way
    SURPLUS = "surplus"  # the fact already has enough


class ReplayTarget(StrEnum):
    """What a HighlyKnown or MaybeKnown training row teaches."""

    SELF = "self"  # the base model's own greedy answer to the first prompt of S0
    GOLD = "gold"  # the canonical answer
    FIRST_ALIAS = "first_alias"  # the first alias after the canonical answer, as in the released code; the answer if there is none


class ReplayShortfall(StrEnum):
    """What a trial does whose mix asks for more replayed facts than the base knows."""

    REFUSE = "refuse"  # an error that names the shortfall
    USE_ALL = "use_all"  # it replays all there are, as the released code does: larger mixes then become one and the same


class Draw(StrEnum):
    """How the facts of a trial are drawn from their pool."""

    STRATIFIED = "stratified"  # seeded, round robin over relations, nested: the 10 are among the 40
    FILE_ORDER = "file_order"  # the first n rows, as in the released code; the seed changes nothing


class LossTokens(StrEnum):
    """Which tokens of a training row the loss is taken on."""

    ANSWER = "answer"
    FULL_TEXT = "full_text"


class ModuleGroup(StrEnum):
    """Groups of a model's matrices that an adapter can target without their names."""

    ATTENTION = "attention"
    MLP = "mlp"  # all others of a layer
    ALL_LINEAR = "all-linear"  # both


class Packing(StrEnum):
    """How the rows of a batch are laid out for the model."""

    PREFIX_TREE = "prefix_tree"  # first tokens that rows share are read once
    PADDED = "padded"  # every row whole, padded to the longest


class Attention(StrEnum):
    """How attention is computed in training; names of transformers."""

    AUTO = "auto"
    SDPA = "sdpa"  # torch's fused kernel
    EAGER = "eager"  # matrix products and a softmax


class EvalMode(StrEnum):
    """How unknown_accuracy is measured after an epoch."""

    GENERATE = "generate"  # the model writes answers, which the matcher judges
    TEACHER_FORCED = "teacher_forced"  # one pass over questions with their answers: is every token of the canonical one the greedy choice?


class RateSchedule(StrEnum):
    """How the learning rate changes after its warm-up."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant"


class Sampler(StrEnum):
    """Where the trials of a search come from."""

    GRID = "grid"  # every combination of the lists
    RANDOM = "random"
    OPTUNA = "optuna"  # by its TPE sampler, from what earlier trials reached
    STEPWISE = "stepwise"  # rates first, then mixes, then ranks; each at the gentlest value so far that still learns


class Tracker(StrEnum):
    """Experiment trackers that receive a trial's epochs."""

    WANDB = "wandb"
    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"


class Scheduler(StrEnum):
    """What stops a trial early, in addition to `stop_at_accuracy`."""

    NONE = "none"
    ASHA = "asha"


class TrialStatus(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"  # ran all epochs, or reached `stop_at_accuracy`
    STOPPED = "stopped"  # ended early by the scheduler
    DIVERGED = "diverged"  # a loss that is not finite
    FAILED = "failed"
    OUT_OF_MEMORY = "oom"


class Part(StrEnum):
    """What a measured fact is to a study; see kp.metrics.parts."""

    POOL = "pool"  # trials may draw it
    CONTROL_DEV = "control_dev"  # no trial may; winners are chosen on it
    CONTROL_TEST = "control_test"  # nor here; winners are told on it


class FactRole(StrEnum):
    """What a measured fact is to a trial. To the base, a fact is either control or untouched."""

    TRAINED = "trained"  # it was to be learned: the Unknown facts that the trial trained on, and their paraphrases
    REPLAYED = "replayed"  # the base knew it, and the trial trained on it
    CONTROL_DEV = "control_dev"  # no trial of the study trains on it or replays it
    CONTROL_TEST = "control_test"  # nor on this one
    UNTOUCHED = "untouched"  # this trial did not train on it, others may have


class FactSubset(StrEnum):
    """The measured facts that an effect is reported on; see kp.metrics.effects."""

    ALL = "all"  # as the paper counts
    CONTROL = "control"  # both halves
    CONTROL_DEV = "control_dev"
    CONTROL_TEST = "control_test"
    UNTOUCHED = "untouched"
    UNTRAINED = "untrained"  # control and untouched
    TRAINED = "trained"
    REPLAYED = "replayed"


class EffectKind(StrEnum):
    """How an effect of an adapter is estimated; see kp.metrics.effects."""

    NET_CHANGE = "net_change"
    SAME_PROMPT = "same_prompt"
    CROSSED = "crossed"


class Verdict(StrEnum):
    """What a study can say about a harm; see kp.metrics.verdicts."""

    HARM_SHOWN = "harm_shown"
    WITHIN_MARGIN = "within_margin"  # no harm beyond the margin shown
    NOT_RESOLVED = "not_resolved"


class ShiftView(StrEnum):
    """The facts over which a shift is counted."""

    ALL = "all"  # over all measured facts, as the paper does
    AT_RISK = "at_risk"  # over the facts that could have moved that way
    UNTRAINED = "untrained"  # without the facts the trial trained on
    CONTROL = "control"  # over control facts, if the study has any


class Activity(StrEnum):
    """What a process of a study spends its time on; see kp.study.profile."""

    GENERATION = "generation"
    TRAINING = "training"
    EVALUATION = "evaluation"  # after an epoch, a part of training
    SCORING = "scoring"  # benchmarks, and likelihoods of texts and answers
    STARTING_RAY = "starting Ray"
    LOADING = "loading models"  # to generate and score
    SETUP = "setting up trials"  # rows, the base model if the worker has none yet, engine


LAYERS_FIELD = "training.layers"  # named in messages about a model that cannot be adapted in these layers

BASE = "base"  # the trial_id of measurements taken without an adapter
PLACEBO = "placebo"  # the trial_id of the base asked once more in other batches
NOISE = "noise"  # the trial_id of the base compared with itself
