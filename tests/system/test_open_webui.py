"""Open WebUI as its users meet it: through its API, and in a browser."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from tests.system.conftest import Session
from tests.system.inventory import address, variable

MODEL = "smollm2:135m"


@pytest.fixture(scope="module")
def site(lab: Session) -> str:
    return f"http://{address(lab, 'web1')}:{variable(lab, 'web1', 'open_webui_port', 3000)}"


@pytest.fixture(scope="module")
def admin(lab: Session) -> dict[str, str]:
    return {
        "email": variable(lab, "web1", "open_webui_admin_email"),
        "password": lab.inv("secrets.show", "vault_open_webui_admin_password").stdout.strip(),
    }


@pytest.fixture(scope="module")
def api(site: str, admin: dict[str, str]) -> requests.Session:
    """A session that is signed in as the admin."""
    answer = requests.post(f"{site}/api/v1/auths/signin", json=admin, timeout=30)
    assert answer.status_code == 200, answer.text
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {answer.json()['token']}"
    return session


def test_a_wrong_password_does_not_sign_in(site: str, admin: dict[str, str]) -> None:
    answer = requests.post(f"{site}/api/v1/auths/signin", json=admin | {"password": "wrong"}, timeout=30)
    assert answer.status_code == 400


def test_sign_up_is_closed(site: str) -> None:
    stranger = {"name": "Stranger", "email": "stranger@example.org", "password": "long-enough-1"}
    assert requests.post(f"{site}/api/v1/auths/signup", json=stranger, timeout=30).status_code == 403


def test_the_models_of_all_hosts_are_listed(site: str, api: requests.Session) -> None:
    backends = api.get(f"{site}/ollama/config", timeout=30).json()["OLLAMA_BASE_URLS"]
    assert len(backends) == 2
    for index in range(len(backends)):
        models = api.get(f"{site}/ollama/api/tags/{index}", timeout=30).json()["models"]
        assert MODEL in {model["name"] for model in models}, backends[index]
    assert MODEL in {model["id"] for model in api.get(f"{site}/api/models", timeout=30).json()["data"]}


def test_it_gives_a_real_answer(site: str, api: requests.Session) -> None:
    question = {"role": "user", "content": "What is the capital of France?"}
    body = {"model": MODEL, "stream": False, "max_tokens": 32, "messages": [question]}
    answer = api.post(f"{site}/api/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["choices"][0]["message"]["content"].split()) > 3


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-background-networking", "disable-component-update", "window-size=1280,900"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path}")
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def test_a_person_signs_in_and_chats_in_a_browser(
    site: str, admin: dict[str, str], api: requests.Session, browser: WebDriver
) -> None:
    wait = WebDriverWait(browser, 60)
    known = {chat["id"] for chat in api.get(f"{site}/api/v1/chats/?page=1", timeout=30).json()}

    browser.get(f"{site}/auth")
    wait.until(lambda page: page.find_element(By.CSS_SELECTOR, "input[type=email]")).send_keys(admin["email"])
    browser.find_element(By.CSS_SELECTOR, "input[type=password]").send_keys(admin["password"])
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    wait.until(lambda page: page.find_elements(By.ID, "chat-input"))
    # What is new in this version is told once to each person, in front of everything.
    with suppress(TimeoutException):
        news = WebDriverWait(browser, 5).until(
            lambda page: page.find_element(By.XPATH, '//button[contains(., "Let\'s Go")]')
        )
        news.click()

    browser.get(f"{site}/?models={MODEL}")
    field = wait.until(lambda page: page.find_element(By.ID, "chat-input"))
    field.click()
    field.send_keys("What is the capital of France?", Keys.ENTER)
    # The element is made anew as words come in.
    wait = WebDriverWait(browser, 60, ignored_exceptions=[NoSuchElementException, StaleElementReferenceException])
    wait.until(lambda page: len(page.find_element(By.CSS_SELECTOR, ".chat-assistant").text.split()) > 3)

    # What is shown is the model's answer, and no error.
    chats = api.get(f"{site}/api/v1/chats/?page=1", timeout=30).json()
    chat = next(chat["id"] for chat in chats if chat["id"] not in known)
    messages = api.get(f"{site}/api/v1/chats/{chat}", timeout=30).json()["chat"]["history"]["messages"].values()
    answer = next(message for message in messages if message["role"] == "assistant")
    assert "error" not in answer, answer
    assert answer["model"] == MODEL
