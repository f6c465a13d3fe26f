"""The names of the files in a step's folder, and of the folders in the results root."""

FACTS_FILE = "facts.parquet"
PUBLISHED_FILE = "published_categories.parquet"
QUARANTINED_FILE = "quarantined.parquet"
GRAPH_REPORT_FILE = "graph_relations.parquet"
DROPPED_FILE = "dropped_candidates.parquet"
REPLACED_SHOTS_FILE = "replaced_shots.parquet"
ANSWERS_FILE = "answers.parquet"
CATEGORIES_FILE = "categories.parquet"
SAMPLES_FILE = "samples.parquet"
SLICK_FILE = "slick.parquet"
PARTS_FILE = "parts.parquet"
REPLIES_FILE = "replies.parquet"
PARAPHRASES_FILE = "paraphrases.parquet"
TRIAL_FILE = "trial.parquet"
EPOCHS_FILE = "epochs.parquet"
FACT_EPOCHS_FILE = "fact_epochs.parquet"  # of trials trained since it is kept
ROWS_FILE = "training_rows.parquet"
BENCHMARKS_FILE = "benchmarks.parquet"
BENCHMARK_ITEMS_FILE = "benchmark_items.parquet"
BENCHMARK_CHOICES_FILE = "benchmark_choices.parquet"
SURPRISAL_FILE = "surprisal.parquet"
DRIFT_FILE = "drift.parquet"
ADAPTER_FOLDER = "adapter"
MACHINE_CHOICES_FILE = "machine_choices.json"  # in a study's folder: what `auto` stands for
PROFILE_FILE = "profile.json"  # in a study's folder: where the time of its last profiled run went
TASK_DATA_FILE = "task_data.json"  # in a study's folder: the commits of the data sets of lm-eval tasks

OWN_FOLDERS = ("store", "work", "damaged")
"""Folders of the store in the results root, beside those of studies, which are named after their study."""
