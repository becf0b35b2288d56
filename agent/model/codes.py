"""The codes that officers choose from, with their words and the article they come from.

A code means the same at every station and for as long as a statement is kept, so it is part of the program: a bureau
says in its profile which stages it has, never what a stage is. Codes are only ever added.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Code(NamedTuple):
    """What a code says, in Chinese and English, and the article that names it; empty where it is our own."""

    zh: str
    en: str
    citation: str = ""


Codes = Mapping[str, Code]

SHANDONG_RECORD: Final = "鲁医保发〔2019〕60号《全过程记录办法》"
NANCHANG_RECORD: Final = "南昌市医保局《执法全过程记录制度》"

ACT_TYPES: Final[Codes] = MappingProxyType({
    "inspection": Code("检查", "inspection", f"{SHANDONG_RECORD}第二条"),
    "penalty": Code("处罚", "penalty", f"{SHANDONG_RECORD}第二条"),
    "coercion": Code("强制", "coercive measure", f"{SHANDONG_RECORD}第二条"),
    "payment": Code("给付", "payment", f"{SHANDONG_RECORD}第二条"),
    "audit": Code("稽核", "audit by an agency", f"{SHANDONG_RECORD}第二十五条"),
    "other": Code("其他", "other"),
})  # fmt: skip

STAGES: Final[Codes] = MappingProxyType({
    "S01": Code("受理登记", "acceptance"),
    "S02": Code("立案", "filing of a case"),
    "S03": Code("现场检查", "inspection on site"),
    "S04": Code("随机抽查", "random check"),
    "S05": Code("询问（调查）", "questioning"),
    "S06": Code("调取书证物证", "collection of documents and objects"),
    "S07": Code("抽样/鉴定", "sampling or appraisal"),
    "S08": Code("先行登记保存", "registration and preservation", f"{SHANDONG_RECORD}第十一条"),
    "S09": Code("封存", "sealing", f"{SHANDONG_RECORD}第十一条；医疗保障基金使用监督管理条例 第二十七条"),
    "S10": Code("查封扣押", "sequestration and seizure", f"{NANCHANG_RECORD}第十五条"),
    "S11": Code("陈述申辩", "statement and defence"),
    "S12": Code("告知", "notification of rights"),
    "S13": Code("听证", "hearing", f"{SHANDONG_RECORD}第十四条"),
    "S14": Code("集体讨论", "collective discussion"),
    "S15": Code("直接送达", "direct service", f"{SHANDONG_RECORD}第十六条第（一）项"),
    "S16": Code("留置送达", "service by leaving", f"{SHANDONG_RECORD}第十六条第（三）项"),
    "S17": Code("公告送达", "service by announcement", f"{SHANDONG_RECORD}第十六条第（五）项"),
    "S18": Code("责令改正核查", "check of a correction", f"{SHANDONG_RECORD}第十七条"),
    "S19": Code("行政强制执行/强制销毁", "enforcement, destruction"),
    "S20": Code("投诉举报接待", "reception of complaints"),
    "S99": Code("其他", "other"),
})  # fmt: skip

METHODS: Final[Codes] = MappingProxyType({
    "site_video": Code("现场录像", "video on site", f"{SHANDONG_RECORD}第三条"),
    "body_camera": Code("执法记录仪摄录", "body-worn camera", f"{SHANDONG_RECORD}第三条"),
    "fixed_camera": Code("固定摄像", "fixed camera", f"{SHANDONG_RECORD}第三条"),
    "audio": Code("录音", "sound recording", f"{SHANDONG_RECORD}第三条"),
    "photo": Code("拍照", "photograph", f"{SHANDONG_RECORD}第三条"),
    "copy": Code("复制", "copy", "最高人民法院关于行政诉讼证据若干问题的规定 第十二条第（一）项"),
})  # fmt: skip

KEY_CONTENTS: Final[Codes] = MappingProxyType({
    "scene": Code("执法现场的环境", "the scene", f"{SHANDONG_RECORD}第十二条第（一）项"),
    "persons": Code(
        "当事人、证人、第三人等现场有关人员的体貌特征和言行举止", "the persons, what they say and do",
        f"{SHANDONG_RECORD}第十二条第（二）项",
    ),
    "objects": Code("重要涉案物品等相关证据及其主要特征", "objects", f"{SHANDONG_RECORD}第十二条第（三）项"),
    "measures": Code("对有关人员、财物采取措施的情况", "measures taken", f"{SHANDONG_RECORD}第十二条第（四）项"),
    "service": Code("现场送达行政执法文书的情况", "service of documents", f"{SHANDONG_RECORD}第十二条第（五）项"),
    "other": Code("其他应当记录的内容", "other content", f"{SHANDONG_RECORD}第十二条第（六）项"),
})  # fmt: skip

EVIDENCE_CLASSES: Final[Codes] = MappingProxyType({
    "AV": Code("视听资料", "audio-visual material", "行政处罚法 第四十六条"),
    "EDATA": Code("电子数据", "electronic data", "行政处罚法 第四十六条"),
})  # fmt: skip

SENSITIVITIES: Final[Codes] = MappingProxyType({
    "ordinary": Code("一般", "ordinary"),
    "privacy": Code("个人隐私", "personal privacy", f"{SHANDONG_RECORD}第二十三条第二款"),
    "business_secret": Code("商业秘密", "business secret", f"{SHANDONG_RECORD}第二十三条第二款"),
})  # fmt: skip

STATE_SECRETS: Final = frozenset({"国家秘密", "涉密", "机密", "绝密", "state_secret", "state secret", "classified"})
"""Words of what can't be chosen as sensitivity: such material must not pass this system."""

RETENTIONS: Final[Codes] = MappingProxyType({
    "same_as_case": Code("同案卷", "as the case file", f"{NANCHANG_RECORD}第二十条"),
    "permanent": Code("永久", "permanent"),
    "years": Code("年", "a number of years"),
})  # fmt: skip

CARRIERS: Final[Codes] = MappingProxyType({
    "in_device": Code("在设备中", "in the recorder"),
    "sealed": Code("封存", "sealed away"),
    "released": Code("已释放", "released for use again"),
})  # fmt: skip

ANSWERS: Final[Codes] = MappingProxyType({
    "yes": Code("是", "yes"),
    "no": Code("否", "no"),
    "na": Code("不适用", "not applicable"),
})  # fmt: skip

MARKS: Final[Codes] = MappingProxyType({
    "none": Code("无", "none"),
    "important": Code("重点", "important"),
})  # fmt: skip

LATE_CAUSES: Final[Codes] = MappingProxyType({
    "LATE-01": Code("边远、交通不便", "remote place", f"{NANCHANG_RECORD}第二十二条第二款"),
    "LATE-02": Code("异地执法", "enforcement elsewhere", f"{NANCHANG_RECORD}第二十二条第二款"),
    "LATE-03": Code("连续执法", "continuous enforcement", f"{NANCHANG_RECORD}第二十二条第二款"),
    "LATE-04": Code("采集站故障", "station failed"),
    "LATE-05": Code("网络故障/中心不可用", "network or centre failed"),
    "LATE-06": Code("记录仪故障送修", "recorder under repair"),
    "LATE-07": Code("读取失败重试", "reading failed and was tried again"),
    "LATE-08": Code("设备时钟错误，实际未逾期", "recorder's clock was wrong, it was in time"),
    "LATE-09": Code("人员请假/未及时交还", "officer away, recorder not handed back"),
    "LATE-10": Code("节假日安排更新重算", "counted again with a new holiday notice"),
    "LATE-98": Code("其他", "other"),
})  # fmt: skip
