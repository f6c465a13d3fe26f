"""Files that others wrote: separators, encodings, compressions, bad rows, chats and the many forms of JSON."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from kp.errors import UserError
from kp.facts.tables import SourceFacts, read_source
from kp.facts.validation import check_facts

NAMES = ("Oslo", "Lima", "Quito", "Accra")
PAIRS = [(f"Which port is nearest to {name}?", f"Port {name[::-1]}") for name in NAMES]


def read(path: Path, content: str | bytes, encoding: str = "utf-8") -> SourceFacts:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding, "surrogatepass"))
    return read_source(str(path))


def pairs(source: SourceFacts) -> list[tuple[str, str]]:
    assert source.unread == ()
    return [(fact["question"], fact["object"]) for fact in source.facts.to_pylist()]


def faults(source: SourceFacts) -> list[tuple[int, str, str]]:
    return [(problem.row, problem.column, problem.fault) for problem in source.unread]


def table(separator: str = ",", end: str = "\n", header: tuple[str, str] = ("question", "answer")) -> str:
    return "".join(f"{question}{separator}{answer}{end}" for question, answer in (header, *PAIRS))


# Separators and headers


@pytest.mark.parametrize(
    ("name", "separator", "said"),
    [
        ("facts.csv", ",", ()),
        ("facts.csv", ";", ("semicolon-separated",)),
        ("facts.csv", "\t", ("tab-separated",)),
        ("facts.csv", "|", ("bar-separated",)),
        ("facts.tsv", "\t", ()),
        ("facts.tsv", ",", ("comma-separated",)),
        ("facts.csv", " ; ", ("semicolon-separated",)),
        ("FACTS.CSV", ",", ()),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_table_separator_is_that_of_the_header_and_is_said_if_unusual(
    tmp_path: Path, name: str, separator: str, said: Any, end: str
) -> None:
    source = read(tmp_path / name, table(separator, end))
    assert pairs(source) == PAIRS
    assert source.notes == tuple(f"{tmp_path / name}: read as {form}" for form in said)


def test_table_separator_in_quoted_names_and_cells_separates_nothing(tmp_path: Path) -> None:
    source = read(tmp_path / "facts.csv", 'question;"answer";"note, or ; mark, if, any"\nWho, or what?;"a;b, c";x\n')
    assert pairs(source) == [("Who, or what?", "a;b, c")]


def test_table_first_line_of_excel_names_the_separator(tmp_path: Path) -> None:
    assert pairs(read(tmp_path / "facts.csv", "sep=;\r\n" + table(";", "\r\n"))) == PAIRS


@pytest.mark.parametrize(
    "header", [("Question", "ANSWER"), (" question ", "\tAnswer\xa0"), ("\ufeffQuestion", "answer"), ('"Question"', "Answer")]
)
def test_table_header_is_found_without_regard_to_case_and_blanks(tmp_path: Path, header: tuple[str, str]) -> None:
    assert pairs(read(tmp_path / "facts.csv", table(header=header))) == PAIRS


def test_table_columns_without_a_name_and_blank_rows_are_left_out(tmp_path: Path) -> None:
    text = "question,answer,,\n\nWho?,a,,\n,,,\n  ,\t,\xa0,\nWhat?,b,,\n,,,\n\n"
    source = read(tmp_path / "facts.csv", text)
    assert pairs(source) == [("Who?", "a"), ("What?", "b")]
    assert source.rows == (2, 5)


def test_table_field_of_any_length_is_read(tmp_path: Path) -> None:
    assert pairs(read(tmp_path / "facts.csv", f"question,answer,context\nWho?,a,{'x' * 1_000_000}\n")) == [("Who?", "a")]


def test_table_gaps_in_optional_columns_get_the_defaults(tmp_path: Path) -> None:
    text = "question,answer,relation,subject,domain,popularity,subject_degree,fact_id\nWho?,a,,,,,,\nWhat?,b,NA,nan,None,Head,7.0,x\n"
    first, second = read(tmp_path / "facts.csv", text).facts.to_pylist()
    assert (first["subject"], first["relation"], first["domain"], first["popularity"]) == ("Who?", "unspecified", None, None)
    assert (second["subject"], second["relation"], second["domain"], second["popularity"]) == ("What?", "unspecified", None, "head")
    assert (first["subject_degree"], second["subject_degree"], second["fact_id"]) == (None, 7, "x")


# Encodings and compressions

GERMAN = [("Wer führt die Mühle?", "Frau Möwe – „Salt“"), ("Who runs the Köln desk?", "Günter Graß")]
FRENCH = [("Qui a écrit L’Étranger ?", "Albert Camus"), ("Où est né Zola ?", "à Paris")]
POLISH = [("Kto napisał Lalkę i gdzie leży Łódź?", "Bolesław Prus"), ("Jakże się zwać?", "Święty Źdźbło")]
RUSSIAN = [("Кто написал «Войну и мир» в России?", "Лев Толстой"), ("Столица России?", "Москва")]
GREEK = [("Ποιος έγραψε την Οδύσσεια;", "Όμηρος"), ("Πρωτεύουσα της Ελλάδας;", "Αθήνα")]
SAMPLES = {
    "cp1252": ("Windows-1252", GERMAN),
    "cp1252 in French": ("Windows-1252", FRENCH),
    "cp1250": ("Windows-1250", POLISH),
    "cp1251": ("Windows-1251", RUSSIAN),
    "cp1253": ("Windows-1253", GREEK),
    "utf-16": ("UTF-16", GERMAN),
    "utf-16-le": ("UTF-16-LE", GERMAN),
    "utf-32": ("UTF-32", GERMAN),
}


@pytest.mark.parametrize("encoding", SAMPLES)
def test_table_encoding_is_found_and_said_with_a_row_to_check(tmp_path: Path, encoding: str) -> None:
    name, rows = SAMPLES[encoding]
    text = "question|answer\nWho?|a\n" + "".join(f"{question}|{answer}\n" for question, answer in rows)
    source = read(tmp_path / "facts.csv", text, encoding.split()[0])
    assert pairs(source) == [("Who?", "a"), *rows]
    example = f"row 2 is not UTF-8 and reads '{rows[0][0]}'; if that is wrong, save as CSV UTF-8"
    assert source.notes == (f"{tmp_path / 'facts.csv'}: read as bar-separated, {name}; {example}",)


UNSURE = {
    "a single letter": ("latin-1", "Who?,ÿ"),
    "Baltic or Icelandic": ("cp1257", "Who runs the Rīga desk?,Jānis Bērziņš"),
    "that of DOS": ("cp850", "Who runs the München desk?,Günter Graß"),
}


@pytest.mark.parametrize("case", UNSURE)
def test_table_encoding_that_could_be_another_is_told_by_row_and_never_guessed(tmp_path: Path, case: str) -> None:
    encoding, line = UNSURE[case]
    source = read(tmp_path / "facts.csv", f"question,answer\nWho?,a\n{line}\n", encoding)
    assert [(row, fault) for row, _, fault in faults(source)] == [(2, "is not UTF-8 (save as CSV UTF-8)")]
    assert source.notes == ()


def test_table_in_utf8_with_a_damaged_row_keeps_the_others_as_they_are(tmp_path: Path) -> None:
    source = read(tmp_path / "facts.csv", "question,answer\nWer führt?,Möwe\nWas?,".encode() + b"M\xf6we\nWo?,dort\n")
    assert source.facts["object"].to_pylist() == ["Möwe", "dort"]
    assert faults(source) == [(2, "answer", "is not UTF-8 (save as CSV UTF-8)")]
    assert source.notes == ()


@pytest.mark.parametrize(
    ("ending", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".GZ", gzip.compress)]
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_table_compressed_is_the_same(tmp_path: Path, ending: str, compress: Any, form: str) -> None:
    objects = [{"question": question, "answer": answer} for question, answer in PAIRS]
    texts = {"csv": table(), "jsonl": "".join(json.dumps(row) + "\n" for row in objects), "json": json.dumps(objects)}
    assert pairs(read(tmp_path / f"facts.{form}{ending}", compress(texts[form].encode()))) == PAIRS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("facts.csv", b"PK\x03\x04....", "begins like a .xlsx file"),
        ("facts.csv", gzip.compress(b"question", mtime=0), "begins like a .gz file"),
        ("facts.jsonl", b"PAR1", "begins like a .parquet file"),
        ("facts.csv", b"\x00\xff\x01\x00\x07" * 50, "holds zero bytes"),
        ("facts.csv.gz", b"question,answer\n", "cannot be read: Not a gzipped file"),
        ("facts.xlsx", b"no sheet", "not a readable Excel file"),
        ("facts.json", b"{", "not valid JSON"),
        ("facts.json", b'"text"', "no table: expected a list of objects"),
        ("facts.json", b'{"a": 1}', "no table: expected a list of objects"),
        ("facts.csv", b"\n \n", "the file is empty"),
    ],
)
def test_file_of_another_kind_is_one_error_that_says_so(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=rf"^facts\.source: .*{name}: ") as raised:
        read(tmp_path / name, content)
    assert said in str(raised.value)


# Bad rows

BAD_ROWS = {
    "too few fields": ("csv", "Who?", "", "1 fields, the header has 2"),
    "too many fields": ("csv", "Who?,a,b", "", "3 fields, the header has 2"),
    "stray quotation mark": ("csv", '"Who" is it?,a', "", "not a valid record '',' expected after '\"''"),
    "open quotation mark": ("csv", '"Who is it?,a', "", "not a valid record '',' expected after '\"''"),
    "mark of a missing value": ("csv", "Who?,nan", "answer", "stands for a missing value"),
    "mark that is a code": ("csv", "Who?,NA", "answer", 'stands for a missing value (if it is the answer, write ["NA"])'),
    "list that is cut": ("csv", 'Who?,"[""a"', "answer", "is a list or dict that cannot be parsed"),
    "invalid JSON": ("jsonl", '{"question": "Who?"', "", "not valid JSON 'Expecting ',' delimiter at character 21'"),
    "no object": ("jsonl", "[1]", "", "expected an object"),
    "two columns of a name": ("jsonl", '{"question": "a", "Question": "b"}', "", "has two columns of one name"),
    "no text": ("jsonl", '{"question": "Who?", "answer": true}', "answer", "is neither a text nor a number"),
    "struct of another kind": (
        "jsonl",
        '{"question": "Who?", "answer": {"name": "a"}}',
        "answer",
        "is a struct without value, text, aliases or normalized_aliases",
    ),
    "lone surrogate": ("jsonl", '{"question": "Who?", "answer": "a \\ud83d"}', "answer", "holds a lone surrogate, half of a character"),
    "surrogate in an alias": (
        "jsonl",
        '{"question": "Who?", "answer": "a", "aliases": ["\\udc00"]}',
        "aliases",
        "holds a lone surrogate, half of a character",
    ),
    "popularity": ("jsonl", '{"question": "Who?", "answer": "a", "popularity": "huge"}', "popularity", "is none of head, torso, tail"),
    "degree": ("jsonl", '{"question": "Who?", "answer": "a", "subject_degree": "many"}', "subject_degree", "is no whole number"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_is_set_aside_by_number_and_costs_no_other(tmp_path: Path, case: str) -> None:
    form, line, column, fault = BAD_ROWS[case]
    good = [f"{question},{answer}" for question, answer in PAIRS]
    if form == "jsonl":
        good = [json.dumps({"question": question, "answer": answer}) for question, answer in PAIRS]
    quoted = '"What, if any, ""it""?",b' if form == "csv" else json.dumps({"question": 'What, if any, "it"?', "answer": "b"})
    lines = ["question,answer"] * (form == "csv") + [*good[:2], line, *good[2:], quoted]
    source = read(tmp_path / f"facts.{form}", "\n".join(lines) + "\n")
    assert source.facts["object"].to_pylist() == [answer for _, answer in PAIRS] + ["b"]
    assert source.rows == (1, 2, 4, 5, 6)
    assert faults(source) == [(3, column, fault)]
    kept, quarantined = check_facts(source.facts, "facts", 0.2, source.rows, source.unread)
    assert (kept.num_rows, quarantined["row"].to_pylist()) == (5, [3])
    with pytest.raises(UserError, match=r"1 of 6 rows \(16\.7%\) .* row 3"):
        check_facts(source.facts, "facts", 0.1, source.rows, source.unread)


@pytest.mark.parametrize(("question", "answer"), [("", "a"), ("Who?", ""), ("\u200b", "a"), ("Who?", "\xa0"), ("nan", "a")])
def test_row_with_an_empty_field_is_set_aside_by_the_check(tmp_path: Path, question: str, answer: str) -> None:
    source = read(tmp_path / "facts.csv", table() + f"{question},{answer}\n")
    kept, quarantined = check_facts(source.facts, "facts", 0.2, source.rows, source.unread)
    assert kept.num_rows == 4
    assert set(quarantined["row"].to_pylist()) == {5}
    assert "empty" in quarantined["reason"].to_pylist()


def test_open_quotation_mark_at_the_end_costs_one_row(tmp_path: Path) -> None:
    source = read(tmp_path / "facts.csv", 'question,answer\n"Who?,a\n' + table().partition("\n")[2])
    assert source.facts["object"].to_pylist() == [answer for _, answer in PAIRS]
    assert faults(source) == [(1, "", "not a valid record 'unexpected end of data'")]


def test_record_of_several_lines_with_too_many_fields_is_one_bad_row(tmp_path: Path) -> None:
    source = read(tmp_path / "facts.csv", 'question,answer\n"Who\nor\nwhat?",a,b\nWhat?,c\n')
    assert source.facts["object"].to_pylist() == ["c"]
    assert faults(source) == [(1, "", "3 fields, the header has 2")]


def test_tab_separated_quotation_marks_mean_nothing_where_they_enclose_nothing(tmp_path: Path) -> None:
    source = read(tmp_path / "facts.tsv", 'question\tanswer\n"Emma" is by whom?\tAusten\n"Who wrote\tBrontë\n"What?"\t"a"\n')
    assert pairs(source) == [('"Emma" is by whom?', "Austen"), ('"Who wrote', "Brontë"), ("What?", "a")]


def test_quotation_marks_with_a_backslash_are_read_as_marks(tmp_path: Path) -> None:
    lines = [r'"Who said \"no, never\"?",a', r"Where is C:\x?,b", r'"What is ""it""?",c', r'"open \"mark,d']
    source = read(tmp_path / "facts.csv", "question,answer\n" + "\n".join(lines) + "\nWhen?,e\n")
    asked = source.facts["question"].to_pylist()
    assert asked == ['Who said "no, never"?', r"Where is C:\x?", 'What is "it"?', "When?"]
    assert [row for row, _, _ in faults(source)] == [4]


def test_zero_byte_in_a_cell_costs_that_row(tmp_path: Path) -> None:
    source = read(tmp_path / "facts.csv", table() + "Who\0?,a\n")
    kept, quarantined = check_facts(source.facts, "facts", 0.2, source.rows, source.unread)
    assert (kept.num_rows, set(quarantined["row"].to_pylist())) == (4, {5})


@pytest.mark.parametrize("indent", [None, 2])
def test_json_document_under_the_ending_of_lines_is_named(tmp_path: Path, indent: int | None) -> None:
    with pytest.raises(UserError, match=r"one JSON document, not JSON lines: give its name the ending \.json"):
        read(tmp_path / "facts.jsonl", json.dumps(OBJECTS, indent=indent))


# Codes, bars


def test_code_of_namibia_is_an_answer_among_codes(tmp_path: Path) -> None:
    codes = {"Norway": "NO", "Namibia": "NA", "Peru": "PE"}
    source = read(tmp_path / "facts.csv", "question,answer\n" + "".join(f"Code of {name}?,{code}\n" for name, code in codes.items()))
    assert [answer for _, answer in pairs(source)] == ["NO", "NA", "PE"]


def test_symbol_of_sodium_is_an_answer_everywhere(tmp_path: Path) -> None:
    assert pairs(read(tmp_path / "facts.csv", "question,answer\nSymbol of sodium?,Na\n")) == [("Symbol of sodium?", "Na")]


@pytest.mark.parametrize(
    ("columns", "cells", "answers", "said"),
    [
        ("answer,aliases", "a,b|c", ["a", "b", "c"], "1 cells of column 'aliases' are split at '|'"),
        ("answers", "a|b", ["a", "b"], "1 cells of column 'answers' are split at '|'"),
        ("answer", "a|b", ["a|b"], "1 cells of column 'answer' hold '|' and are one answer each; 'answers' would split them"),
        ("answer,aliases", "a,b; c", ["a", "b; c"], "1 cells of column 'aliases' hold ';' and are one text each; '|' would split them"),
    ],
)
def test_texts_with_separators_are_split_or_warned_of(tmp_path: Path, columns: str, cells: str, answers: list[str], said: str) -> None:
    source = read(tmp_path / "facts.csv", f"question,{columns}\nWho?,{cells}\n")
    assert source.facts["answers"].to_pylist() == [answers]
    assert source.notes == (f"{tmp_path / 'facts.csv'}: {said}",)


# Chats and forms of JSON

OPENAI = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "a"}]
CHATS: dict[str, Any] = {
    "OpenAI": {"messages": OPENAI},
    "OpenAI in parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Who?"}]}, OPENAI[2]]},
    "ShareGPT": {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "a"}]},
    "ShareGPT by role": {"conversations": OPENAI[1:]},
    "Alpaca": {"instruction": "Who?", "input": "", "output": "a"},
    "prompt and completion": {"prompt": "Who?", "completion": "a"},
    "prompt and completion of messages": {"prompt": OPENAI[:2], "completion": OPENAI[2:]},
    "as text": {"messages": str(OPENAI)},
    "with a relation": {"Messages": OPENAI, "relation": "r"},
}


@pytest.mark.parametrize("form", CHATS)
def test_chat_of_a_question_and_an_answer_is_a_fact(tmp_path: Path, form: str) -> None:
    assert pairs(read(tmp_path / "facts.jsonl", json.dumps(CHATS[form]))) == [("Who?", "a")]


def test_chat_of_alpaca_with_an_input_asks_both(tmp_path: Path) -> None:
    row = {"instruction": "Name the capital.", "input": "Peru", "output": "Lima"}
    assert pairs(read(tmp_path / "facts.jsonl", json.dumps(row))) == [("Name the capital. Peru", "Lima")]


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        (OPENAI * 2, "a chat of 4 turns, not one question and one answer"),
        (OPENAI[:2], "a chat of 1 turns, not one question and one answer"),
        ([*OPENAI[1:2], {"role": "tool", "content": "x"}], "a chat of 2 turns, not one question and one answer"),
        ([], "a chat of 0 turns, not one question and one answer"),
        ("hello", "a chat that is no list of messages"),
        ("[{'role'", "a chat that is no list of messages"),
        ([1], "a chat that is no list of messages"),
    ],
)
def test_chat_of_another_kind_is_set_aside_by_row(tmp_path: Path, turns: Any, fault: str) -> None:
    source = read(tmp_path / "facts.jsonl", "\n".join(json.dumps({"messages": cell}) for cell in (OPENAI, turns, OPENAI)))
    assert source.rows == (1, 3)
    assert faults(source) == [(2, "", fault)]


OBJECTS = [{"question": question, "answer": answer} for question, answer in PAIRS]
DOCUMENTS: dict[str, Any] = {
    "list": OBJECTS,
    "named list": {"version": "1", "data": OBJECTS},
    "the Hub's rows": {"features": [{"name": "question"}], "rows": [{"row_idx": place, "row": row} for place, row in enumerate(OBJECTS)]},
    "SQuAD": {
        "version": "v2.0",
        "data": [
            {"title": "t", "paragraphs": [{"context": "c", "qas": [{"question": q, "answers": [{"text": a, "answer_start": 0}]}]}]}
            for q, a in PAIRS
        ],
    },
    "TriviaQA": {"Data": [{"Question": q, "Answer": {"Value": a, "Aliases": [a], "NormalizedAliases": ["x"]}} for q, a in PAIRS]},
    "columns": {"question": [q for q, _ in PAIRS], "answer": [a for _, a in PAIRS]},
}


@pytest.mark.parametrize("form", DOCUMENTS)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_document_in_each_form_is_a_table(tmp_path: Path, form: str, indent: int | None) -> None:
    assert pairs(read(tmp_path / "facts.json", json.dumps(DOCUMENTS[form], indent=indent))) == PAIRS


def test_json_document_of_a_single_row_is_that_row(tmp_path: Path) -> None:
    assert pairs(read(tmp_path / "facts.json", json.dumps(OBJECTS[0]))) == PAIRS[:1]


def test_json_lines_under_the_ending_of_a_document_are_read_and_said(tmp_path: Path) -> None:
    source = read(tmp_path / "facts.json", "\n".join(map(json.dumps, OBJECTS)) + "\n{oops\n")
    assert source.facts.num_rows == 4
    assert faults(source) == [(5, "", "not valid JSON 'Expecting property name enclosed in double quotes at character 2'")]
    assert source.notes == (f"{tmp_path / 'facts.json'}: read as JSON lines",)


def test_sheet_with_questions_is_found_among_others_and_said(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["About these facts"])
    sheet = book.create_sheet("Facts")
    for row in ([], ["Question", "Answer", None], ["When?", 1900, None], [], ["Share?", 0.5, None], ["Gone?", "#N/A", None]):
        sheet.append(row)
    book.save(tmp_path / "facts.xlsx")
    source = read_source(str(tmp_path / "facts.xlsx"))
    assert source.facts["object"].to_pylist() == ["1900", "0.5", ""]
    assert source.rows == (1, 3, 4)
    assert source.notes == (f"{tmp_path / 'facts.xlsx'}: read as its sheet 'Facts', one of 2",)
