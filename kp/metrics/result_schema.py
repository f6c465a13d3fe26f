"""The tables that are computed from what was measured; those of what was measured are in kp.schema."""

import pyarrow as pa

SHIFTS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "noise" for the base compared with itself, S1 with S2
        pa.field("view", pa.string(), nullable=False),  # all, at_risk, untrained, control
        pa.field("shift", pa.string(), nullable=False),  # UK->HK ... HK->UK; positive, negative
        pa.field("count", pa.float64(), nullable=False),  # facts that moved this way; a mean over pairs of shot sets for noise
        pa.field("n", pa.int64(), nullable=False),  # the denominator
        pa.field("rate", pa.float64()),  # count / n; null without facts
        pa.field("standard_error", pa.float64()),
    ]
)

FACT_EFFECTS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("s0_category", pa.string(), nullable=False),  # of the base on S0
        pa.field("relation", pa.string(), nullable=False),
        pa.field("object", pa.string(), nullable=False),
        pa.field("effect", pa.string(), nullable=False),  # net_change, same_prompt, crossed
        pa.field("shift", pa.string()),  # UK->HK ... HK->UK; positive, negative; null for net_change
        pa.field("adapter", pa.float64(), nullable=False),
        pa.field("base", pa.float64(), nullable=False),  # the same of the base on this fact
        pa.field("value", pa.float64(), nullable=False),  # adapter - base
    ]
)

EFFECTS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("subset", pa.string(), nullable=False),  # all, untrained, control, control_dev, control_test, ...
        pa.field("at_risk", pa.bool_(), nullable=False),  # only facts that could have moved that way, by their category on S0
        pa.field("effect", pa.string(), nullable=False),  # net_change, same_prompt, crossed
        pa.field("shift", pa.string()),  # UK->HK ... HK->UK; positive, negative; null for net_change
        pa.field("value", pa.float64()),  # adapter - base, a mean over facts; null without facts
        pa.field("adapter", pa.float64()),  # the mean of the adapter alone
        pa.field("base", pa.float64()),  # on the same facts
        pa.field("n", pa.int64(), nullable=False),  # facts
        pa.field("clusters", pa.int64(), nullable=False),  # relation x object
        pa.field("standard_error", pa.float64()),  # null below two clusters
        pa.field("lower", pa.float64()),  # 95% interval
        pa.field("upper", pa.float64()),
        pa.field("resolvable", pa.float64()),  # smallest true effect found with 80% power
        pa.field("verdict", pa.string()),  # with Holm's correction over the trials; null where the effect is no harm: rises, same_prompt
        pa.field("verdict_alone", pa.string()),  # for a trial that was chosen before these facts were looked at
    ]
)

# How many bits of the facts that it packed an adapter holds; see kp.metrics.capacity.
CAPACITY = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("facts", pa.int64(), nullable=False),  # packed
        pa.field("parameters", pa.int64(), nullable=False),  # of the adapter
        pa.field("held_bits", pa.float64(), nullable=False),  # by the packed facts, under the base: the sum of their surprisal
        pa.field(
            "memorised_bits", pa.float64(), nullable=False
        ),  # gain of the packed facts beyond that of untaught facts of their relations: kp.metrics.capacity
        pa.field("lower", pa.float64()),  # 95% interval
        pa.field("upper", pa.float64()),
        pa.field("per_fact", pa.float64(), nullable=False),  # memorised bits
        pa.field("per_parameter", pa.float64(), nullable=False),  # likewise
        pa.field("load", pa.float64(), nullable=False),  # held bits a parameter
        pa.field("entropy", pa.float64()),  # of a fact, in bits: log2 of its possible objects, known of synthetic facts alone
        pa.field("recall", pa.float64(), nullable=False),  # share of packed facts whose answer is the greedy choice, token by token
        pa.field("recall_lower", pa.float64()),  # 95% interval
        pa.field("recall_upper", pa.float64()),
        pa.field("untaught_recall", pa.float64(), nullable=False),  # the same of Unknown facts that were not trained on
        pa.field("untaught_gain", pa.float64(), nullable=False),  # mean gain of Unknown facts that were not trained on, which is taken off
        pa.field("untaught_facts", pa.int64(), nullable=False),  # of these facts
        pa.field("stand_ins", pa.int64(), nullable=False),  # packed facts whose relation has no such fact: the mean of all stands in
        pa.field("end_loss", pa.float64(), nullable=False),  # mean bits of the token that ends a packed answer, with the adapter
    ]
)

# What an adapter knows and costs at several scales of its change of the weights.
SCALE_CURVE = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("scale", pa.float64(), nullable=False),  # 1 is the adapter as trained
        pa.field("measure", pa.string(), nullable=False),  # see kp.metrics.scale_curve
        pa.field("value", pa.float64()),  # null without facts
        pa.field("n", pa.int64(), nullable=False),  # answers, or facts
        pa.field("standard_error", pa.float64()),
        pa.field("lower", pa.float64()),  # 95% interval of this trial and scale alone; null for reliability
        pa.field("upper", pa.float64()),
        pa.field("verdict_alone", pa.string()),  # of a loss
    ]
)

# How far adapters drift from the base on texts, a token.
DRIFT_SUMMARY = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("scale", pa.float64(), nullable=False),  # 1 is the adapter as trained
        pa.field("register", pa.string(), nullable=False),  # neutral: all registers of neutral text together; questions; or a register
        pa.field("texts", pa.int64(), nullable=False),  # the clusters
        pa.field("tokens", pa.int64(), nullable=False),  # predicted ones of all these texts
        pa.field("kl", pa.float64(), nullable=False),  # KL(base || adapter) a token, in nats
        pa.field("standard_error", pa.float64()),  # of kl; null below two texts
        pa.field("lower", pa.float64()),  # 95% interval of kl
        pa.field("upper", pa.float64()),
        pa.field("base_perplexity", pa.float64(), nullable=False),  # exp of the base's mean nats a token
        pa.field("perplexity", pa.float64(), nullable=False),  # the same of the adapter
        pa.field("ratio", pa.float64(), nullable=False),  # perplexity of the adapter by that of the base
        pa.field("ratio_lower", pa.float64()),  # 95% interval of the ratio
        pa.field("ratio_upper", pa.float64()),  # 95% interval of the ratio
    ]
)

# Two data mixes on the same facts: how much more the first keeps of what the base knows.
ARMS = pa.schema(
    [
        pa.field("first", pa.string(), nullable=False),  # data mix in words
        pa.field("second", pa.string(), nullable=False),  # the other mix
        pa.field("pairs", pa.int64(), nullable=False),  # trials of each, paired by setting and seed
        pa.field("seeds", pa.int64(), nullable=False),  # of these trials: one speaks of its adapters alone, two are too few for a verdict
        pa.field("facts", pa.int64(), nullable=False),  # known ones that no compared trial was trained on
        pa.field("value", pa.float64()),  # net change of the first - that of the second; null without facts
        pa.field("lower", pa.float64()),  # 95% interval
        pa.field("upper", pa.float64()),
        pa.field("resolvable", pa.float64()),  # smallest true difference found with 80% power
        pa.field("p_holm", pa.float64(), nullable=False),  # two-sided, with Holm's correction over all rows
        pa.field("first_steps", pa.float64(), nullable=False),  # of the optimiser, mean over the trials
        pa.field("second_steps", pa.float64(), nullable=False),  # likewise
        pa.field("first_exposures", pa.float64(), nullable=False),  # times that an Unknown fact was trained on, mean over the trials
        pa.field("second_exposures", pa.float64(), nullable=False),  # likewise
        pa.field("first_final_rate", pa.float64(), nullable=False),  # learning rate of the last step, mean over the trials
        pa.field("second_final_rate", pa.float64(), nullable=False),  # likewise
        pa.field("first_reliability", pa.float64(), nullable=False),  # on S1, mean over the trials: who learned less may have lost less
        pa.field("second_reliability", pa.float64(), nullable=False),  # likewise
        pa.field("unmet", pa.list_(pa.string()), nullable=False),  # conditions of a fair comparison that do not hold: equal_steps, ...
    ]
)

# Why facts moved between Unknown and HighlyKnown: kp.metrics.reasons.
REASONS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("variant", pa.string(), nullable=False),  # released, rigorous
        pa.field("direction", pa.string(), nullable=False),  # UK->HK, HK->UK
        pa.field("reason", pa.string(), nullable=False),  # non_refusal (of UK->HK alone), explosion, target, domain, explained
        pa.field("count", pa.float64(), nullable=False),  # of facts; rigorous: the sum of their shares of answers
        pa.field("n", pa.int64(), nullable=False),  # facts that moved
        pa.field("share", pa.float64()),  # null if none moved
        pa.field("lower", pa.float64()),  # 95% interval
        pa.field("upper", pa.float64()),
        pa.field("baseline", pa.float64()),  # the share that chance explains; null of released ones
        pa.field("p_value", pa.float64()),  # of a permutation test, one-sided; null where there is none
    ]
)

LOCALITY = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("neighbours", pa.string(), nullable=False),  # same_subject, same_relation, same_domain, unrelated
        pa.field("measure", pa.string(), nullable=False),  # unchanged, net_change
        pa.field("value", pa.float64(), nullable=False),  # a share for unchanged, a difference of shares for net_change
        pa.field("n", pa.int64(), nullable=False),  # facts
        pa.field("clusters", pa.int64(), nullable=False),  # relation x object
        pa.field("standard_error", pa.float64()),
        pa.field("lower", pa.float64()),  # 95% interval
        pa.field("upper", pa.float64()),
    ]
)

# Answers to reversed questions, which ask for the subject of a fact; see kp.metrics.reversal.
REVERSAL = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("facts", pa.string(), nullable=False),  # packed, untaught
        pa.field("adapter", pa.float64(), nullable=False),  # share of right answers
        pa.field("adapter_lower", pa.float64()),  # 95% interval
        pa.field("adapter_upper", pa.float64()),  # 95% interval
        pa.field("base", pa.float64(), nullable=False),  # the same of the base, over the same questions and prompts
        pa.field("value", pa.float64(), nullable=False),  # adapter - base
        pa.field("n", pa.int64(), nullable=False),  # facts
        pa.field("standard_error", pa.float64()),
        pa.field("lower", pa.float64()),  # 95% interval
        pa.field("upper", pa.float64()),
    ]
)

# Refusals and diversity of the answers of adapter and base over the same facts and prompts.
ANSWER_CHANGES = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("shot_set", pa.string(), nullable=False),
        pa.field("measure", pa.string(), nullable=False),  # as in SCORES; released_refusals
        pa.field("base", pa.float64(), nullable=False),  # the measure of the base's answers
        pa.field("adapter", pa.float64(), nullable=False),  # of the adapter's
        pa.field("value", pa.float64(), nullable=False),  # adapter - base
        pa.field("n", pa.int64(), nullable=False),  # facts
        pa.field("lower", pa.float64()),  # 95% interval
        pa.field("upper", pa.float64()),
    ]
)

SCORES = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "base" for the model without an adapter
        pa.field("measure", pa.string(), nullable=False),  # Measure in kp.metrics.scores: reliability, generality, refusals, ...
        pa.field("value", pa.float64(), nullable=False),  # a share from 0 to 1, or a count
        pa.field("n", pa.int64(), nullable=False),
        pa.field("standard_error", pa.float64()),
    ]
)

# One row a model and fact, on the shot set on which adapters are compared with the base.
FACT_STORIES = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),  # "base" for the model without an adapter
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),  # trained, replayed, untouched, or the fact's part
        pa.field("category", pa.string(), nullable=False),
        pa.field("correct", pa.int32(), nullable=False),  # of `asked`
        pa.field("asked", pa.int32(), nullable=False),
        pa.field("refused", pa.int32(), nullable=False),  # of `asked`
        pa.field("answer", pa.string()),  # first line of the most frequent raw answer
        pa.field("answer_count", pa.int32()),  # how many of `asked` gave it
    ]
)

BENCHMARK_EFFECTS = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),  # adapter - base, a mean over items
        pa.field("base", pa.float64(), nullable=False),  # on the same items
        pa.field("adapter", pa.float64(), nullable=False),  # on the same items
        pa.field("n", pa.int64(), nullable=False),  # items
        pa.field("clusters", pa.int64(), nullable=False),  # groups
        pa.field("standard_error", pa.float64()),  # null below two clusters
        pa.field("lower", pa.float64()),  # 95% interval of this trial alone
        pa.field("upper", pa.float64()),
        pa.field("resolvable", pa.float64()),  # smallest true harm found with 80% power among all trials (Holm's first step)
        pa.field("p_value", pa.float64()),  # McNemar's; null unless all scores are 0 or 1
        pa.field("p_holm", pa.float64()),  # over all trials of the task and metric
        pa.field("verdict", pa.string(), nullable=False),  # with Holm's correction over the same trials
    ]
)

# What the base's categories are worth: tables of `kp audit` and of reports.

DISAGREEMENT = pa.schema(
    [
        pa.field("first", pa.string(), nullable=False),  # matcher
        pa.field("second", pa.string(), nullable=False),  # matcher
        pa.field("shot_set", pa.string()),  # null: all of them together
        pa.field("first_only", pa.int64(), nullable=False),  # answers that are right according to the first matcher only
        pa.field("second_only", pa.int64(), nullable=False),  # right according to the second only
        pa.field("n", pa.int64(), nullable=False),  # answers
        pa.field("rate", pa.float64(), nullable=False),  # of answers on which the two disagree
        pa.field("standard_error", pa.float64()),  # clustered over facts
    ]
)

PUBLISHED_AGREEMENT = pa.schema(
    [
        pa.field("published", pa.string(), nullable=False),  # category that the authors of the source found
        pa.field("category", pa.string(), nullable=False),  # that of the base on S0, by the study's matcher
        pa.field("facts", pa.int64(), nullable=False),  # that have this pair
    ]
)

MAJORITY = pa.schema(
    [
        pa.field("relation", pa.string(), nullable=False),
        pa.field("object", pa.string(), nullable=False),  # the most common one
        pa.field("facts", pa.int64(), nullable=False),
        pa.field("object_facts", pa.int64(), nullable=False),  # facts that have it
        pa.field("dominance", pa.float64(), nullable=False),  # their share
        pa.field("right_facts", pa.int64(), nullable=False),  # facts for which it is a right answer
        pa.field("right_rate", pa.float64(), nullable=False),  # right_facts / facts
        pa.field("given", pa.int64(), nullable=False),  # answers on S0 that give it
        pa.field("answers", pa.int64(), nullable=False),  # on S0, of all facts of the relation
        pa.field("given_rate", pa.float64(), nullable=False),  # given / answers
        pa.field("given_standard_error", pa.float64()),  # clustered over facts
        pa.field("highly_known", pa.int64(), nullable=False),  # facts of the relation that are HighlyKnown on S0
        pa.field("highly_known_constant", pa.int64(), nullable=False),  # of these, those for which the constant answer is right
    ]
)
