"""The words of the screens: Chinese from the field's glossary, English beside it, for every machine name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from agent.absence import Evidence, Sure
from agent.access.timeline import NAMES
from agent.continuity import GapState
from agent.deadline import ZONE, Verdict
from agent.model import (
    AssetState,
    Basis,
    Clearing,
    ClockTrust,
    Completeness,
    Confidence,
    Duty,
    FindingKind,
    Integrity,
    Measured,
    Medium,
    OrgType,
    Outcome,
    Phase,
    RecorderKind,
    Role,
    Stays,
    TimeBasis,
    TranscriptKind,
)
from agent.model.sessions import StartedBy
from agent.rooms.protocol import Cause, Kind, Why


class Health(StrEnum):
    """State of the station; FAILED: nothing can be pulled."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"


class Hold(StrEnum):
    """What an officer may do with the recorder in a slot."""

    KEEP = "keep"
    TAKE = "take"
    ASK = "ask"
    GONE = "gone"


class Light(StrEnum):
    """Whether a camera, a microphone or a room is being recorded; RECORDING: bytes of all that is meant arrive."""

    RECORDING = "recording"
    CONNECTING = "connecting"
    LOST = "lost"
    IDLE = "idle"


class Line(StrEnum):
    """What a session's ledger tells besides what a source shows and sounds like (rooms.protocol.Kind)."""

    GAP = "gap"
    LATE = "late"
    OVERRUN = "overrun"
    MISSING = "missing"
    SPACE = "space"
    STOPPING = "stopping"
    EXTENDED = "extended"


class Ended(StrEnum):
    """Why a session ended."""

    STOPPED = "stopped"
    SCHEDULED = "scheduled"
    INTERRUPTED = "interrupted"


class Check(StrEnum):
    """What a readiness test of a room looks at."""

    RECORD = "record"
    DECODE = "decode"
    LEVELS = "levels"
    CLOCK = "clock"
    DISK = "disk"
    STORE = "store"


class Whereabouts(StrEnum):
    """Where a recorder is, as the screens say it; NOT_BACK is later than agreed or than a time limit may be."""

    HERE = "here"
    ISSUED = "issued"
    NOT_BACK = "not_back"
    UNPULLED = "unpulled"
    WRITTEN_OFF = "written_off"
    UNREGISTERED = "unregistered"
    SIMULATED = "simulated"


WORDS: Final[Mapping[type[StrEnum], Mapping[str, tuple[str, str]]]] = {
    Phase: {
        Phase.IDENTIFYING: ("识别中", "identifying"),
        Phase.READING: ("读取中", "reading"),
        Phase.VERIFYING: ("校验中", "verifying"),
        Phase.FINISHED: ("已采集", "pulled"),
        Phase.FAILED: ("读取失败", "reading failed"),
        Phase.UNPLUGGED: ("已拔出", "unplugged"),
        Phase.UNSUPPORTED: ("设备不支持", "not supported"),
        Phase.UNREGISTERED: ("未登记", "not registered"),
        Phase.NO_SPACE: ("存储空间不足", "storage is full"),
    },
    Health: {
        Health.OK: ("正常", "in order"),
        Health.DEGRADED: ("降级", "degraded"),
        Health.FAILED: ("故障", "out of order"),
    },
    Hold: {
        Hold.KEEP: ("请勿拔出", "do not unplug"),
        Hold.TAKE: ("可以取走", "may be taken away"),
        Hold.ASK: ("请联系管理员", "call the administrator"),
        Hold.GONE: ("已拔出", "unplugged"),
    },
    Clearing: {
        Clearing.CLEAR: ("可以清空", "may be cleared"),
        Clearing.NOT_STORED: ("请勿清空：尚未全部入库", "do not clear: not all stored"),
        Clearing.NOT_ALL_TAKEN: ("请勿清空：未全部采集", "do not clear: not all pulled"),
        Clearing.TRACES: ("请勿清空：有缺失录像", "do not clear: recordings are missing"),
    },
    AssetState: {
        AssetState.WANTED: ("待采集", "to be pulled"),
        AssetState.HELD: ("已采集，待上传", "held here, to be uploaded"),
        AssetState.STORED: ("已入库", "stored and verified"),
        AssetState.RELEASED: ("已入库", "stored and verified"),
        AssetState.STUCK: ("需要处理", "needs a person"),
        AssetState.MATCHED: ("已采集（内容相同）", "held already, same content"),
    },
    Outcome: {
        Outcome.PENDING: ("待采集", "to be pulled"),
        Outcome.PULLED: ("已采集", "pulled"),
        Outcome.ALREADY_HELD: ("此前已采集", "already held"),
        Outcome.REFUSED: ("无法采集", "refused"),
        Outcome.UNREADABLE: ("读取失败", "unreadable"),
        Outcome.LEFT: ("未采集", "left on the recorder"),
    },
    Verdict: {
        Verdict.OPEN: ("期限内", "within the time limit"),
        Verdict.DUE_SOON: ("即将到期", "due soon"),
        Verdict.UNDECIDED: ("无法判定", "undecided"),
        Verdict.OVERDUE: ("逾期", "overdue"),
        Verdict.IN_TIME: ("按期入库", "stored in time"),
        Verdict.LATE: ("逾期入库", "stored late"),
        Verdict.NO_LIMIT: ("无法定期限", "no legal time limit"),
        Verdict.PAST_TARGET: ("超过内部目标（无法定期限）", "past the internal target; no legal time limit"),
    },
    Basis: {
        Basis.OFFICIAL: ("正式", "official calendar"),
        Basis.PROVISIONAL: ("暂定", "provisional"),
        Basis.TARGET: ("内部目标", "internal target"),
    },
    ClockTrust: {
        ClockTrust.UNMEASURED: ("时钟偏差未测", "clock offset not measured"),
        ClockTrust.UNTRUSTED: ("时间待核", "time to be checked"),
        ClockTrust.CONTRADICTED: ("时间矛盾，待核", "times contradict each other"),
        ClockTrust.STATED: ("人工说明", "stated by a person"),
    },
    Light: {
        Light.RECORDING: ("录制中", "recording"),
        Light.CONNECTING: ("正在连接", "connecting"),
        Light.LOST: ("信号中断", "no signal"),
        Light.IDLE: ("未录制", "not recording"),
    },
    Line: {
        Line.GAP: ("录制中断", "nothing was recorded"),
        Line.LATE: ("迟于计划开始", "began later than planned"),
        Line.OVERRUN: ("超过计划结束时间", "goes on beyond its planned end"),
        Line.MISSING: ("一直没有信号", "nothing came since the start"),
        Line.SPACE: ("磁盘空间不够录完计划时长", "not enough room for the planned time"),
        Line.STOPPING: ("停止录制", "somebody stopped it"),
        Line.EXTENDED: ("计划结束时间已改", "another end was planned"),
    },
    Kind: {
        Kind.JUMP: ("时间戳跳变", "time stamps jumped"),
        Kind.DRIFT: ("时钟快慢不一", "its clock drifts"),
        Kind.DROPPED: ("传输中丢失数据", "packets were lost on the way"),
        Kind.DAMAGED: ("部分数据损坏", "some data is damaged"),
        Kind.CHANGED: ("视频参数改变", "its format changed"),
        Kind.BLACK: ("画面全黑", "the picture is black"),
        Kind.FROZEN: ("画面静止不动", "the picture does not change"),
        Kind.SILENT: ("没有声音", "there is no sound"),
        Kind.FLAT: ("声音信号平直，话筒可能未接", "flat signal: is the microphone connected?"),
        Kind.CLOCK: ("摄像机时钟与本站相差", "the camera's clock differs from ours"),
        Kind.TRACK: ("缺少画面或声音", "picture or sound is missing"),
        Kind.TAMPER: ("摄像机报告被遮挡或移动", "the camera says that it was covered or turned"),
        Kind.SIGNAL: ("摄像机报告自身没有信号", "the camera says that it has no signal itself"),
        Kind.UNHEARD: ("收不到摄像机自身的报警", "what the camera notices itself can't be heard"),
        Kind.UNWATCHED: ("画面和声音暂时无法检查", "picture and sound can't be looked at"),
    },
    Cause: {
        Cause.REFUSED: ("摄像机拒绝连接", "the camera refused the connection"),
        Cause.UNAUTHORISED: ("摄像机不接受用户名或密码", "the camera refused user or password"),
        Cause.READABLE: (
            "摄像机要求明文传送密码，本站未允许",
            "the camera wants its password readable, which is not allowed here",
        ),
        Cause.UNREACHABLE: ("网络不通，无法连接摄像机", "the camera can't be reached"),
        Cause.CLOSED: ("摄像机断开了连接", "the camera closed the connection"),
        Cause.STALLED: ("摄像机不再传送数据", "the camera sent nothing any more"),
        Cause.GARBAGE: ("收到的数据无法识别", "what came could not be understood"),
        Cause.DISK: ("本机磁盘无法写入", "this station's disk took nothing"),
        Cause.RECORDER: (
            "本机录制程序中断，已重新启动",
            "the recorder here broke off and was started again",
        ),
    },
    Why: {
        Why.LENGTH: ("达到分段时长", "its length was reached"),
        Why.LOST: ("信号中断", "the signal was lost"),
        Why.JUMP: ("时间戳跳变", "time stamps jumped"),
        Why.CHANGED: ("视频参数改变", "the format changed"),
        Why.STOPPED: ("录制结束", "recording was ended"),
        Why.DISK: ("磁盘无法写入", "the disk took no more"),
        Why.KILLED: ("录制程序中断", "the recorder broke off"),
    },
    StartedBy: {
        StartedBy.SCHEDULE: ("按计划自动开始", "by the schedule"),
        StartedBy.SCREEN: ("在屏幕上开始", "at the screen"),
        StartedBy.COMMAND: ("用命令开始", "by a command"),
        StartedBy.BUTTON: ("用按钮开始", "by the button"),
    },
    Ended: {
        Ended.STOPPED: ("人工停止", "stopped by a person"),
        Ended.SCHEDULED: ("按计划结束", "ended as planned"),
        Ended.INTERRUPTED: ("因本机中断而结束", "ended when this station broke off"),
    },
    Check: {
        Check.RECORD: ("能录制", "records"),
        Check.DECODE: ("画面可解码", "picture decodes"),
        Check.LEVELS: ("声音", "sound"),
        Check.CLOCK: ("时钟", "clock"),
        Check.DISK: ("磁盘空间", "room on the disk"),
        Check.STORE: ("专用存储器", "store"),
    },
    Whereabouts: {
        Whereabouts.HERE: ("在站", "here"),
        Whereabouts.ISSUED: ("已领用", "handed out"),
        Whereabouts.NOT_BACK: ("未归还", "not back"),
        Whereabouts.UNPULLED: ("已归还，未采集", "returned without docking"),
        Whereabouts.WRITTEN_OFF: ("不再等待采集", "given up by a person"),
        Whereabouts.UNREGISTERED: ("未登记", "not registered"),
        Whereabouts.SIMULATED: ("演练，非证据", "training, no evidence"),
    },
    RecorderKind: {
        RecorderKind.BODY_CAMERA: ("执法记录仪", "body-worn camera"),
        RecorderKind.VOICE_RECORDER: ("录音笔", "voice recorder"),
        RecorderKind.CAMERA: ("照相机", "camera"),
    },
    TranscriptKind: {
        TranscriptKind.HUMAN: ("人工", "written by a person"),
        TranscriptKind.MACHINE: ("机器转写·未核对", "machine's text, not checked by anybody"),
        TranscriptKind.CHECKED: ("校对", "checked by a person"),
    },
    Duty: {
        Duty.SILENT: ("文件未作规定", "the documents are silent"),
        Duty.MAY: ("可以音像记录", "may be recorded"),
        Duty.SHOULD: ("根据实际情况进行音像记录", "to be recorded as the case requires"),
        Duty.MUST: ("应当拍照或录像", "must be photographed or recorded"),
        Duty.MUST_FULL: ("应当全程音像记录", "must be recorded in full"),
    },
    GapState: {
        GapState.AUTOMATIC: ("自动分段间隙，不超过 2 秒", "no longer than two seconds"),
        GapState.EXPLAINED: ("已说明", "explained"),
        GapState.UNCONFIRMED: ("说明待确认", "explanation to be confirmed"),
        GapState.UNEXPLAINED: ("中断未说明", "not explained"),
    },
    Evidence: {
        Evidence.NUMBERS: ("序号", "numbering"),
        Evidence.REMAINS: ("目录残留", "directory remains"),
        Evidence.LEDGER: ("上次采集台账", "ledger of the last docking"),
        Evidence.SPACE: ("占用空间", "space in use"),
    },
    Sure: {
        Sure.CERTAIN: ("确定", "certain"),
        Sure.LIKELY: ("很可能", "likely"),
        Sure.POSSIBLE: ("可能", "possible"),
    },
    Integrity: {
        Integrity.COMPLETE: ("完整", "complete"),
        Integrity.TRUNCATED: ("截断", "cut off"),
        Integrity.UNREADABLE: ("无法解析", "can't be understood"),
        Integrity.SUSPECT: ("疑似残缺", "may be incomplete"),
    },
    FindingKind: {kind: NAMES[kind] for kind in FindingKind},
    Role: {
        Role.ORIGINAL: ("原始资料", "original"),
        Role.STATEMENT: ("采集信息", "statement"),
        Role.TRANSCRIPT: ("文字记录", "transcript"),
        Role.EXPLANATION: ("中断说明", "explanation"),
        Role.ACCESS_COPY: ("查阅副本", "access copy"),
        Role.RECOVERY_COPY: ("修复副本", "recovery copy"),
        Role.POSTER: ("封面图", "poster"),
        Role.CONTACT_SHEET: ("画面缩略图", "contact sheet"),
        Role.WAVEFORM: ("声音波形图", "waveform"),
        Role.TIMELINE: ("时间轴", "timeline"),
        Role.FINDINGS: ("检查结果", "findings"),
        Role.CERTIFICATE: ("制作证明", "certificate"),
        Role.MOSAIC: ("多画面合成", "mosaic"),
        Role.PLAYLIST: ("播放列表", "playlist"),
        Role.SESSION_LIST: ("场次清单", "list of the session"),
        Role.MANIFEST: ("清单", "manifest"),
        Role.TIMESTAMP: ("时间戳", "time stamp"),
    },
    Measured: {
        Measured.PACKETS: ("已读完全部数据", "all packets were read"),
        Measured.TAIL: ("已读结尾部分", "the last packets were read"),
        Measured.PARTIAL: ("仅读部分数据", "read as far as the limit"),
        Measured.HEADER: ("仅据文件头", "by the header alone"),
        Measured.NOTHING: ("无时长", "no duration"),
    },
    TimeBasis: {
        TimeBasis.CONTAINER: ("内容（容器）", "content (container)"),
        TimeBasis.FILENAME: ("文件名", "file name"),
        TimeBasis.MTIME: ("文件时间", "time of the file"),
        TimeBasis.EXIF: ("照片信息 (EXIF)", "EXIF"),
        TimeBasis.OFFICER: ("人工说明", "a person"),
    },
    Completeness: {
        Completeness.INCOMPLETE: ("待补充", "incomplete"),
        Completeness.FILLED: ("已补充", "filled in"),
        Completeness.CHECKED: ("已核对", "checked"),
    },
    OrgType: {
        OrgType.UNSTATED: ("", ""),
        OrgType.ADMINISTRATION: ("行政部门", "administration"),
        OrgType.ENTRUSTED: ("受委托组织", "entrusted organisation"),
        OrgType.AGENCY: ("经办机构", "agency"),
    },
    Stays: {
        Stays.YOUNG: ("保留期限未满", "its time here is not over"),
        Stays.UNSTORED: ("尚未全部入库", "not all that belongs to it is stored"),
        Stays.LACKING: ("缺少须入库的材料", "a document that must be stored is missing"),
        Stays.UNLOCKED: ("中心的锁定期限不足", "the store's lock does not last long enough"),
        Stays.FROZEN: ("审核冻结", "frozen for review"),
        Stays.MARKED: ("重点标记", "marked as important"),
        Stays.DOUBTED: ("中心副本存疑", "the store's copy is in doubt"),
        Stays.UNREAD: ("内容尚未读取或副本尚未制作", "its content is not read yet, or no copies are made"),
        Stays.INCOMPLETE: ("有未读出的部分", "parts of it could not be read"),
        Stays.SHARED: ("同一文件也是其他材料", "the same file is something else, too"),
        Stays.UNDER_WAY: ("相同内容正在采集", "the same content is being taken in"),
        Stays.DIFFERS: ("数据表与流转记录不符", "the tables are not what the log says"),
    },
    Confidence: {
        Confidence.HIGH: ("可信度高", "high"),
        Confidence.MEDIUM: ("可信度中", "medium"),
        Confidence.LOW: ("可信度低", "low"),
    },
    Medium: {
        Medium.VIDEO: ("录像", "video"),
        Medium.AUDIO: ("录音", "audio"),
        Medium.PHOTO: ("照片", "photo"),
        Medium.OTHER: ("其他", "other"),
    },
}


def named(value: StrEnum) -> dict[str, str]:
    """A machine name with its words, as every answer gives it."""
    chinese, english = WORDS[type(value)][value]
    return {"name": value.value, "zh": chinese, "en": english}


def named_as(name: str, *kinds: type[StrEnum]) -> dict[str, str]:
    """The same for a text that is one of the names of these kinds, or one of a later version that has no words yet."""
    known = next((kind(name) for kind in kinds if name in kind.__members__.values()), None)
    return named(known) if known is not None else {"name": name, "zh": f"其他（{name}）", "en": name}


def words(chinese: str, english: str) -> dict[str, str]:
    """A sentence in both languages."""
    return {"zh": chinese, "en": english}


def at(time: datetime | None) -> str | None:
    """A time as every answer gives it, in China's zone."""
    return None if time is None else time.astimezone(ZONE).isoformat(timespec="milliseconds")
