"""The nouns of the agent: frozen values without behaviour, shared by every layer above."""

# ruff: noqa: F403 - every public name of these modules belongs to the model

from agent.card import *
from agent.model.accounts import *
from agent.model.activities import *
from agent.model.checkpoints import *
from agent.model.codes import *
from agent.model.derived import *
from agent.model.documents import *
from agent.model.events import *
from agent.model.evidence import *
from agent.model.export import *
from agent.model.facts import *
from agent.model.live import *
from agent.model.metadata import *
from agent.model.naming import *
from agent.model.receipts import *
from agent.model.register import *
from agent.model.release import *
from agent.model.rules import *
from agent.model.sessions import *
