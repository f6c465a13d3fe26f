import pytest

from kp.metrics.refusals import FAMILY_EXAMPLES, is_refusal


@pytest.mark.parametrize(
    "answer",
    [
        "I couldn't find any information about that person.",
        "I couldn\u2019t find any information on the film.",
        "Answer: I could not find information about this.",
        "I cannot verify who that is.",
        "I can't confirm this.",
        "I was unable to determine the director.",
        "Unable to find a match",
        "The director could not be identified.",
        "I'm not sure.",
        "I am not certain, perhaps Rome",
        "i'm not familiar with this film",
        "I DON'T KNOW",
        "I do not know who directed it.",
        "I really don't know.",
        "I don't have enough information to answer.",
        "I do not have access to real-time data.",
        "I don't have any specific information on him.",
        "I have no information about it",
        "I have no idea",
        "As an AI, I have no opinion.",
        "as a large language model",
        "I'm an AI assistant",
        "I'm sorry, but I can't help with that.",
        "Sorry, I can't answer that.",
        "I apologize, but this is beyond me",
        "No information available",
        "There is no information available on this.",
        "no reliable sources are available",
        "Not enough information to say",
        "There is no publicly available information about her.",
        "The information is not available.",
        "Data is unavailable",
        "The answer is unknown.",
        "It is not publicly known.",
        "Unknown",
        "N/A",
        "No information.",
        "Rome\nI'm not sure, though.",
    ],
)
def test_is_refusal_declined_answer_is_one(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Paris",
        "Information theory",
        "Ministry of Information",
        "Data",
        "The Unknown Soldier",
        "The Known World",
        "I'm Not There",
        "I Am Not Your Negro",
        "Sorry to Bother You",
        "Sorry, Wrong Number",
        "I Don't Know How She Does It",
        "An Aid to Memory",
        "Aida",
        "Ai Weiwei",
        "As an Aide",
        "Not Without My Daughter",
        "No Country for Old Men",
        "No Evidence of Disease",
        "Verify",
        "It can find a home in Rome",
        "Sure Thing",
        "He could not read",
        "Information Available Only in Paris",
        "I can say it is Rome",
    ],
)
def test_is_refusal_answer_with_similar_words_is_none(answer: str) -> None:
    assert not is_refusal(answer)


@pytest.mark.parametrize("answer", [answer for answers in FAMILY_EXAMPLES.values() for answer in answers])
def test_is_refusal_example_of_a_model_family_is_one(answer: str) -> None:
    assert is_refusal(answer)
    assert is_refusal(f"Answer: {answer.upper()}")


@pytest.mark.parametrize(
    "answer",
    [
        "Please Please Me",
        "A Record of a Living Being",
        "There Is No Other",
        "A Confusion of Princes",
        "More Information Than You Require",
        "The Last Update",
        "A Known Unknown",
    ],
)
def test_is_refusal_title_with_words_of_a_refusal_is_none(answer: str) -> None:
    assert not is_refusal(answer)
