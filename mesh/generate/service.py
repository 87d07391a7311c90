"""The API's side of a direct generation: who may, how many at once, and the job for a worker.

api.resources.generate -> here -> slots, mesh.dispatch.  The caller's stream must be subscribed before `send`.
"""

from mesh.db.unit_of_work import Database
from mesh.dispatch.jobs import Jobs
from mesh.dispatch.queues import GENERATE
from mesh.generate.slots import Slots
from mesh.generate.views import Job, NewGeneration
from mesh.ids import new_id
from mesh.models.catalogue import Catalogue
from mesh.security.access import require
from mesh.security.principal import Principal

GENERATE_JOB = "mesh.generate"

# A prompt that no worker took lies in the broker no longer than this; its caller has been told much sooner.
EXPIRES_SECONDS = 30.0


class Generations:
    """Admits generations, and sends them to workers."""

    def __init__(self, database: Database, catalogue: Catalogue, jobs: Jobs, slots: Slots) -> None:
        self._database = database
        self._catalogue = catalogue
        self._jobs = jobs
        self._slots = slots

    def admit(self, principal: Principal, asked: NewGeneration) -> Job:
        """Let `asked` be made, and hold a slot for it until `release`.

        Raises:
            InvalidInputError: there is no such model.
            NotFoundError: the network is not the caller's.
            TooManyError: the user has too many under way.
            UnavailableError: Redis or the database does not answer.
        """
        names = {"/model": asked.model, "/model_selection/model": asked.model_selection.get("model")}
        for pointer, name in names.items():
            if name is not None:
                self._catalogue.require(name, pointer)
        if asked.network_id is not None:
            with self._database.begin(atomic=False) as work:
                require(work.connection, principal, asked.network_id)
        job = Job(new_id("generation"), principal.user_id, principal.key_id, asked)
        self._slots.take(job.user_id, job.generation_id)
        return job

    def send(self, job: Job) -> None:
        """Give `job` to a worker.

        Raises:
            UnavailableError: the broker does not take it.
        """
        self._jobs.send(GENERATE_JOB, job.to_json(), queue=GENERATE, expires_seconds=EXPIRES_SECONDS)

    def keep(self, job: Job) -> None:
        """Hold the job's slot for a while more."""
        self._slots.keep(job.user_id, job.generation_id)

    def release(self, job: Job) -> None:
        """Give the job's slot back."""
        self._slots.free(job.user_id, job.generation_id)
