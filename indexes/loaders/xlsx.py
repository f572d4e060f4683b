"""Excel (.xlsx) reader: every sheet is a section; its first row names the columns, every other row is one line.

Values are those that were calculated when the workbook was last saved. Hidden sheets and chart sheets are left out.
"""

import datetime
import io
import zipfile
from typing import Any

from indexes.loaders.archive import check_office
from indexes.loaders.extracted import Extracted, TextBuilder, fold, table_lines
from infra.errors import InputError


def read_xlsx(data: bytes) -> Extracted:
    """Text and sections of a workbook. Raises InputError as check_office, or when damaged."""
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    check_office(data, ".xlsx", "workbook")
    builder = TextBuilder()
    try:
        workbook = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        for sheet in workbook.worksheets:
            if sheet.sheet_state == "visible":
                builder.section(fold(sheet.title))
                builder.lines(table_lines(_rows(sheet)))
        title = fold(workbook.properties.title or "")
        workbook.close()
    except (InvalidFileException, zipfile.BadZipFile, OSError, SyntaxError, KeyError, ValueError) as error:
        raise InputError("damaged, or no workbook: save it again") from error
    return builder.build().model_copy(update={"title": title})


def _rows(sheet: Any) -> list[list[str]]:
    """Rows that hold anything, without empty cells at their ends. The size that the sheet states is not believed."""
    sheet.reset_dimensions()
    rows = []
    for cells in sheet.iter_rows():
        row = [_shown(cell) for cell in cells]
        while row and not row[-1]:
            row.pop()
        if row:
            rows.append(row)
    return rows


def _shown(cell: Any) -> str:
    """A cell as a reader sees it, as far as numbers, shares in per cent, dates and truth values go."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        share = "%" in (cell.number_format or "")
        return f"{value * 100:.10g}%" if share else f"{value:.15g}" if isinstance(value, float) else str(value)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return fold(str(value))
