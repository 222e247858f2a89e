"""What may be shown of a database's address: all of it but the password, which SQLAlchemy says what
it is.
"""

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from rhn.utils.old import without_password

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.%é", min_size=1)
PASSWORDS = st.text(
    st.characters(min_codepoint=33, exclude_characters="@", exclude_categories=["Cs", "Z", "C"])
)


@given(
    NAMES,
    PASSWORDS,
    NAMES,
    st.sampled_from(["", ":5432"]),
    st.sampled_from(["", "/db", "/db?sslmode=require&a=b%40"]),
)
def test_the_rest_of_an_address_is_left_as_it_is(user, password, host, port, rest):
    bare = f"postgresql://{user}@{host}{port}{rest}"
    assert (
        make_url(whole := f"postgresql://{user}:{password}@{host}{port}{rest}").host
        == make_url(bare).host
    )
    assert without_password(whole) == without_password(bare) == bare


def test_what_holds_no_password_is_left_as_it_is_and_options_that_do_are_taken_out():
    for plain in (
        "postgresql://host:5432/db",
        "postgresql:///db",
        "runs/a:b@c",
        "",
        "postgresql://host/db?user=me",
    ):
        assert without_password(plain) == plain
    assert (
        without_password("postgresql://h/d?password=x&user=me&sslpassword=y")
        == "postgresql://h/d?user=me"
    )
    assert without_password("postgresql://h/d?password=x") == "postgresql://h/d"
    assert without_password("postgresql://me:p@ss@h/d") == "postgresql://me@h/d"
