"""Write the notebooks of some pages, executed: `python docs/notebook.py [PAGE ...]`.

The notebook of a page lies beside it: tutorial.md, tutorial.ipynb. Cells are made of the page: `sh` blocks become %%bash cells, `python`
blocks code cells, and the tutorials' pictures, which their blocks draw, are shown by code cells. The page's `text` blocks are left out,
since the cells print them. Needs nbformat, nbclient and ipykernel (extra notebooks).
"""

import base64
import io
import re
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGES = [DOCS / "tutorial.md", DOCS / "tutorial-chorales.md"]
BLOCK = re.compile(r"^```(sh|python|text)[^\n]*\n(.*?)^```$|^!\[([^\]]*)\]\(pictures/\w+-([^)]*)\)$", re.DOTALL | re.MULTILINE)
FIRST = "This notebook is made from the page of the same name. Run it in an environment with the toolkit."
PIXELS, COLOURS, LINES = 840, 128, 40  # width and palette of embedded pictures; longest printed output


def cells(text: str) -> list[tuple[str, str]]:
    """(kind, source) of the cells of a page; kind is "markdown" or "code"."""
    found, end = [("markdown", FIRST)], 0
    for block in BLOCK.finditer(text):
        found.append(("markdown", text[end : block.start()].strip()))
        kind, source, about, picture = block.groups()
        if kind == "sh":
            found.append(("code", f"%%bash -e\n{source.rstrip()}"))
        elif kind == "python":
            found.append(("code", source.rstrip()))
        elif picture:
            found.append(("code", f"# {about}\nfrom IPython.display import Image\n\nImage({picture!r})"))
        end = block.end()
    found.append(("markdown", text[end:].strip()))
    return [(kind, source) for kind, source in found if source]


def execute(sources: list[tuple[str, str]], folder: Path):
    """A notebook of these cells with their outputs, after they ran in a folder."""
    import nbclient
    from nbformat import v4

    make = {"markdown": v4.new_markdown_cell, "code": v4.new_code_cell}
    notebook = v4.new_notebook(
        cells=[make[kind](source, id=f"cell-{number}") for number, (kind, source) in enumerate(sources)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}},
    )
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=900, coalesce_streams=True, resources=where).execute()
    for cell in notebook.cells:
        cell.metadata.clear()  # times of the execution
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(smaller, cell.outputs) if output]
    return notebook


def smaller(output):
    """An output without stderr and ended progress, with at most LINES lines, and with smaller pictures; None if nothing is left."""
    from PIL import Image

    if output.output_type == "display_data" and not output.data.get("text/plain", "picture").strip():
        return None
    if output.output_type == "stream":
        lines = output.text.splitlines(keepends=True)
        output.text = "".join([*lines[: LINES - 1], "...\n", lines[-1]] if len(lines) > LINES else lines)
        return output if output.name == "stdout" else None
    if "image/png" in output.get("data", {}):
        picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGB")
        picture.thumbnail((PIXELS, 10 * PIXELS))
        few = picture.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)  # thin lines keep their colours
        few.save(stored := io.BytesIO(), "PNG", optimize=True)
        output.data = {"image/png": base64.b64encode(stored.getvalue()).decode()}
    return output


if __name__ == "__main__":
    import nbformat

    for page in map(Path, sys.argv[1:] or PAGES):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(execute(cells(page.read_text()), Path(folder)), page.with_suffix(".ipynb"))
