"""A trial reads the prompts of its evaluation once, not after every epoch."""

from pathlib import Path
from unittest import mock

from kp.training.job import TrialJob
from tests.training_workers import Workers, tiny_job, tiny_spec


def test_tokenizer_is_asked_for_the_evaluated_prompts_and_for_its_vocabulary_once_in_all_epochs(
    one: Workers, model: Path, tmp_path: Path
) -> None:
    groups, vocabularies = one.call(_asked_of_tokenizer, tiny_job(model, tiny_spec()), tmp_path)[0]
    assert groups == [1, 1, 1]
    assert vocabularies == [1, 1, 1]


def _asked_of_tokenizer(one_job: TrialJob, folder: Path) -> tuple[list[int], list[int]]:
    """After each epoch, how many groups of prompts have been tokenised since the first one began, and vocabularies decoded."""
    from kp.generation.prompt_reader import PromptReader
    from kp.training.base_model_cache import BaseModelCache
    from kp.training.engine import Place
    from kp.training.trial import TrialTraining

    groups, vocabularies = [], []
    cache = BaseModelCache(one_job.engine)
    training = TrialTraining(cache, one_job, Place(0, 1))
    with (
        mock.patch.object(PromptReader, "_read", autospec=True, side_effect=PromptReader._read) as read,
        mock.patch.object(cache.tokenizer, "batch_decode", side_effect=cache.tokenizer.batch_decode) as decode,
    ):
        while training.progress.status is None:
            training.run_epoch()
            groups.append(read.call_count)
            vocabularies.append(decode.call_count)
    training.close()
    return groups, vocabularies
