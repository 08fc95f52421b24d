# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""A change of Open WebUI with a way back: which step follows which, and what a run that was cut left to do.

What the steps act on is handed in: a ``machine`` (project files, container, database) and a ``journal``. Each step can
be repeated: a run that is cut is taken up from the phase that the journal names, in the order of the phases::

    saving     what is there goes into a folder of its own; the container stands still if its database is in question
    replacing  the new files take the place of the old
    starting   the new container starts and has to prove that it works
    -- only when it does not:
    keeping    what the new one made of the database is put aside
    restoring  database and files are put back as they were saved
    returning  the old container starts and has to prove that it works

Cut before ``starting``, a change is undone, as nothing new has run. Cut in ``starting``, it is finished when the new
one works: people may have used it since. From ``keeping`` on, the way back is gone to its end.
"""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

SAVING, REPLACING, STARTING = "saving", "replacing", "starting"
KEEPING, RESTORING, RETURNING = "keeping", "restoring", "returning"
# Room beside the copies, for what else grows on the same disk meanwhile.
RESERVE = 256 * 1024**2
NOT_SAVED = "Open WebUI's backup could not be written, so nothing was changed"
MAKE_ROOM = "free disk space, or set open_webui_backup_dir to another disk, then run again"


class Upgrade:
    """One change of the project on one machine.

    machine: files() -> {name: text or None}, put(files), stop(), start(image or None), why_not(log_in) -> str,
             log() -> str, and database with the methods of those in open_webui_database
    journal: open_webui_backups.Journal, or a double with the same methods
    """

    def __init__(self, machine, journal) -> None:
        self.machine = machine
        self.journal = journal

    def settle(self) -> str:
        """Finish or undo what an earlier run left. Return "undone", "finished" or "" when nothing was left.

        Raises FleetError at the end of a way back.
        """
        entry = self.journal.entry
        if not entry:
            return ""
        if entry["phase"] in (SAVING, REPLACING):
            self._undo()
            return "undone"
        if entry["phase"] == STARTING:
            self._prove()
            return "finished"
        return self._go_back()

    def run(self, wanted, before, after, with_data, log_in) -> None:
        """Have the wanted files in place and the container running with them, or all as it was and a FleetError.

        wanted:        {name: text, None for a file that shall not be there}
        before, after: the images, each {name, id}
        with_data:     the new container may change the database, so that is saved and put back as well
        log_in:        the administrator must get in for it to count as working
        """
        self.journal.begin(before=before, after=after, with_data=with_data, log_in=log_in)
        try:
            if with_data:
                self.machine.stop()
            self._save(with_data)
        except (FleetError, OSError) as problem:
            error = problem if isinstance(problem, FleetError) else FleetError(NOT_SAVED, str(problem), MAKE_ROOM)
            self._undo()
            try:
                self.machine.start(before)
            except FleetError as second:
                error.why += f"; and the old one, which was stopped for it, does not start: {second.why}"
            raise error from None
        self.journal.move_to(REPLACING)
        self.machine.put(wanted)
        self.journal.move_to(STARTING)
        self._prove()

    def _save(self, with_data) -> None:
        self.journal.save_files(self.machine.files())
        if with_data:
            self.journal.save_manifest(self.machine.database.save(self.journal.folder))

    def _undo(self) -> None:
        """Nothing new has run yet: the old files, where they were replaced, and the container starts with the plan."""
        if self.journal.entry["phase"] == REPLACING:
            self.machine.put(self.journal.saved_files())
        self.journal.discard()

    def _prove(self) -> None:
        entry = self.journal.entry
        log = ""
        try:
            self.machine.start(None)
            why = self.machine.why_not(entry["log_in"])
        except FleetError as error:
            why, log = error.why, error.log
        if not why:
            self.journal.succeed()
            return
        self.journal.move_to(KEEPING, why=why, log=log or self.machine.log())
        self._go_back()

    def _keep(self) -> str:
        """Put aside what the new version made of the database; return why it could not be. The way back goes on."""
        try:
            self.machine.database.keep(self.journal.folder)
        except FleetError as problem:
            return problem.why
        except OSError as problem:
            return str(problem)
        return ""

    def _go_back(self) -> str:
        entry = self.journal.entry
        if entry["phase"] == KEEPING:
            self.machine.stop()
            self.journal.move_to(RESTORING, not_kept=self._keep() if entry["with_data"] else "")
        if entry["phase"] == RESTORING:
            if entry["with_data"]:
                self.machine.database.restore(self.journal.folder, self.journal.saved_parts())
            self.machine.put(self.journal.saved_files())
            self.journal.move_to(RETURNING)
        try:
            self.machine.start(entry["before"])
            again = self.machine.why_not(entry["log_in"])
        except FleetError as error:
            again = error.why
        kept = self.journal.give_up()
        raise FleetError(*words_of_failure(entry, again, kept), log=entry["log"])


def words_of_failure(entry, again, kept):
    """Return (what, why, remedy) of a change that was taken back.

    entry: the journal's last; again: why the old one does not work either, or nothing; kept: the folder, or nothing
    """
    what = f"Open WebUI does not work with {entry['after']['name']}"
    back = f"{entry['before']['name']} is back" + (" with its database" if entry["with_data"] else "")
    state = f"and does not work either: {again}" if again else "and works"
    last = entry["log"].strip().splitlines()[-1:] or ["nothing"]
    where = f". What the new one made of the database is in {kept}" if kept else ""
    if entry.get("not_kept"):
        where = f". What the new one made of the database could not be kept: {entry['not_kept']}"
    why = f"{entry['why']}; the last that it said: {last[0].strip()} ({back} {state}{where})"
    remedy = (
        "read docker logs open-webui, and put back by hand what the folder holds (docs/open-webui.md)"
        if again
        else "correct the setting, or wait for a version that can do it, as the words of its log say; then run again"
    )
    return what, why, remedy


def needs_way_back(database_there, container_image, wanted_image) -> bool:
    """Whether the next start may change a database that is there: migrations go one way only.

    container_image: id of the image that the container runs, None without one; wanted_image: None if not pulled yet
    """
    return database_there and (container_image is None or container_image != wanted_image)


def shortage(size, backup_room, data_room, same_disk) -> str:
    """Say what room is missing for a change with a way back, nothing when there is enough. All in bytes.

    size: of the database. Beside the backup, the way back needs room for what the new version made of it, and the
    new version for its migration, which may write each table anew.
    """
    places = (
        [("the disk of data and backups", 3 * size, backup_room)]
        if same_disk
        else [("the disk of the backups", 2 * size, backup_room), ("the disk of the data", size, data_room)]
    )
    missing = [
        f"{name} has {in_words(room)} free, and {in_words(need + RESERVE)} are needed"
        for name, need, room in places
        if room is not None and room < need + RESERVE
    ]
    return "; ".join(missing)


def in_words(size) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1000**3:.1f} GB" if size >= 1000**3 else f"{size / 1000**2:.0f} MB"
