"""Chinese for the sentences that stored facts tell in English: what is wrong with an original, a copy or a finding."""

from __future__ import annotations

import re
from typing import Final

from agent.status.words import words

# Whole sentences first, then what others are made of; numbers and names in them stay.
_SENTENCES: Final = (
    # Why nothing is read from what is in a slot.
    (r"^a keyboard or a mouse is in it: it was switched off$", "未授权设备：其中有键盘或鼠标，已禁用"),
    (r"^a network card is in it: it was switched off$", "未授权设备：其中有网卡，已禁用"),
    (r"^more than a recorder is in it: it was switched off$", "未授权设备：其中有记录仪以外的功能，已禁用"),
    (r"^it doesn't show itself as a USB disk: nothing can be pulled from it$", "需切换U盘模式，目前无法采集"),
    (r"^mounted$", "本机已挂载此盘"),
    (r"^in use$", "本机正在使用此盘"),
    # What is wrong with an original.
    (r"the file ends inside its (\w+) box, (\d+) bytes too early", r"文件在 \1 段内中断，缺 \2 字节"),
    (r"the file ends inside its last frame, (\d+) bytes too early", r"文件在最后一帧内中断，缺 \1 字节"),
    (
        r"the file ends inside a packet of its transport stream, (\d+) bytes too early",
        r"文件在传输流包内中断，缺 \1 字节",
    ),
    (r"pictures are lost: their bytes are zero", "有画面丢失，其字节全为零"),
    (r"the (\w+) box has an impossible length", r"\1 段长度有误"),
    (r"the (\w+) chunk is (\d+) bytes shorter than its header says", r"\1 段比文件头所述短 \2 字节"),
    (r"the length of the sound was never written: recording was interrupted", "录音中断，未写入声音长度"),
    (r"the index \((\w+)\) is missing", r"缺少索引（\1）"),
    (r"the data chunk is missing", "缺少声音数据"),
    (r"the file ends before the picture begins|the picture has no end( mark)? \(\w+\)", "图片不完整，没有结束标记"),
    (r"a segment of the picture is damaged", "图片有一段损坏"),
    (r"the last ([\d.]+) s that its header tells of are missing", r"缺少文件头所述的最后 \1 秒"),
    (r"what follows can't be read: .*", "其后内容无法读取"),
    (r"a packet is damaged", "有数据损坏"),
    (r"it has too much in it to be read to its end|it has too many packets", "内容过多，未读到结尾"),
    (r"it holds neither picture nor sound|there is neither picture nor sound in it", "没有画面，也没有声音"),
    (r"it was read over and over", "内容被反复读取，已停止"),
    (r"it needs too much memory", "所需内存过多"),
    (r"^unreadable$", "无法读取"),
    (r"Invalid data found when processing input|End of file", "不是可识别的音像记录"),
    # What was found in it.
    (r"the sound begins later", "声音开始较晚"),
    (r"the sound ends earlier", "声音结束较早"),
    (r"the picture begins later", "画面开始较晚"),
    (r"the picture ends earlier", "画面结束较早"),
    (r"not decoded to its end", "未解码到结尾"),
    (r"decoded only as far as (-?\d+) ms: that took all its time", r"限时内只解码到 \1 毫秒处"),
    (r", and (\d+) more$", r"，另有 \1 处"),
    # Why there is no copy, or what is not in it.
    (r"(\d+) attempts to make copies of it did not come to an end", r"制作 \1 次均未完成"),
    (r"its bytes here are not those that were held", "本站所存字节与采集时不一致"),
    (r"nothing in it can be decoded", "没有可解码的内容"),
    (r"the copy can't be read to its end", "副本无法读到结尾"),
    (r"the copy has (\d+) (\w+) tracks, not (\d+)", r"副本中\2轨为 \1 条，应为 \3 条"),
    (r"sound begins (-?\d+) ms after the pictures, not (-?\d+) ms", r"声音比画面晚 \1 毫秒，原始资料为 \2 毫秒"),
    (r"(\d+) packets of the copy's (\w+) can't be decoded", r"副本的\2有 \1 个数据包无法解码"),
    (r"(\d+) packets of the original's (\w+) can't be decoded", r"原始资料的\2有 \1 个数据包无法解码"),
    (r"(\d+) of (\d+) pictures are in the copy", r"副本中有 \1 幅画面，应为 \2 幅"),
    (r"(\d+) of (\d+) (\w+) packets are in the copy", r"副本的\3有 \1 个数据包，应为 \2 个"),
    (r"(\d+) of (\d+) ms of (\w+) are in the copy", r"副本的\3长 \1 毫秒，应为 \2 毫秒"),
    (r"the original is truncated", "原始资料截断"),
    (r"the original is suspect", "原始资料疑似残缺"),
    (r"the original is unreadable", "原始资料无法解析"),
    (r"the original was not read to its end", "原始资料未读到结尾"),
    (r"(video|audio) track (\d+) is not in the copy", r"副本中没有\1轨 \2"),
    (r"subtitle \(([^)]*)\) is not in the copy", r"副本中没有字幕（\1）"),
    (r"(?:data|attachment) \(([^)]*)\) is not in the copy", r"副本中没有附带的其他数据（\1）"),
    (
        r"time jumps by (-?\d+) ms at (-?\d+) ms in the original's (\w+); in the copy it goes on",
        r"原始资料的\3在 \2 毫秒处时间跳变 \1 毫秒，副本中时间连续",
    ),
    (
        r"nothing is written into the pictures, for want of a font \(([\w-]+)\)",
        r"缺少字体（\1），画面上未叠加文字",
    ),
    (r"^no pictures(?=:)", "没有制作图片"),
    (
        r"its sound changes its form after (\d+) ms: what is before was not listened to",
        r"声音格式在 \1 毫秒后改变，此前的声音未检查",
    ),
    # Of films of sessions.
    (r"^no film could be made of its session", "所属场次的合成片无法制作"),
    (r"the film can't be read to its end", "合成片无法读到结尾"),
    (r"the film's (\w+) lasts (\w+) ms, not (\w+) ms", r"合成片的\1长 \2 毫秒，应为 \3 毫秒"),
    (r"the mosaic lasts (\w+) ms, not (\w+) ms", r"多画面合成长 \1 毫秒，应为 \2 毫秒"),
    (r"there is nothing in the film", "合成片中没有内容"),
    (r"(\w+) of (\w+) pictures are in the film", r"合成片中有 \1 幅画面，应为 \2 幅"),
    (r"(\w+) packets of the film's (\w+) can't be decoded", r"合成片的\2有 \1 个数据包无法解码"),
    (r"segment (\w+) has no (\w+)", r"第 \1 段没有\2"),
    (r"segment (\w+) is truncated", r"第 \1 段截断"),
    (r"segment (\w+) is suspect", r"第 \1 段疑似残缺"),
    (r"segment (\w+) is unreadable", r"第 \1 段无法解析"),
    (r"(\w+) sources are not in it", r"有 \1 个信号源未合入"),
    (r"ffmpeg made no contact sheet", "ffmpeg 没有制作缩略图"),
    (
        r"no time and no names are written into it, for want of a font \(([\w-]+)\)",
        r"缺少字体（\1），画面上没有时间和名称",
    ),
    # Why there is no recovery copy, or what is not in it.
    (r"^no recovery copy(?=:)", "没有修复副本"),
    (r"its index is there: ffmpeg itself reads what is left", "索引完好，可由 ffmpeg 直接读取"),
    (
        r"made from the pictures alone: sound, and the time between pictures that are lost, are not in it",
        "仅由画面修复，不含声音，也不含丢失画面所占的时间",
    ),
    (
        r"nothing tells how many pictures there were in a second: (\d+) are assumed",
        r"每秒画面数不明，按 \1 幅计",
    ),
    (r"(\d+) of (\d+) pictures can't be decoded", r"\2 幅画面中有 \1 幅无法解码"),
    (r"ffmpeg wrote (\d+) of the (\d+) pictures that were found", r"找到 \2 幅画面，ffmpeg 只写出 \1 幅"),
    (
        r"no pictures are in it whose codec is known, by themselves or by another recording",
        "没有编码可辨认的画面",
    ),
    (r"the recording to compare with has no pictures", "用于对照的音像记录没有画面"),
    (r"what looks like pictures can't be decoded", "疑似画面的数据无法解码"),
    # What became of those that read and made it.
    (r"there is no ffmpeg that works: it", "没有可用的 ffmpeg，该程序"),
    (r"what is installed as ffmpeg is something else", "所装的 ffmpeg 不是 ffmpeg"),
    (r"ffmpeg wrote nothing", "ffmpeg 没有写出文件"),
    (r"ffmpeg told its findings in words that are not known", "ffmpeg 的检查结果无法识别"),
    (r"the reader of its content|the child that (reads it|looks for pictures)", "读取其内容的进程"),
    (r" ?made no progress for ([\d.]+) s", r"在 \1 秒内没有进展"),
    (r" ?did not end within ([\d.]+) s", r"在 \1 秒内没有结束"),
    (r" ?no answer for ([\d.]+) s", r"在 \1 秒内没有应答"),
    (r" ?takes no input for ([\d.]+) s", r"在 \1 秒内没有接收数据"),
    (r" ?closed its input", "关闭了输入"),
    (r" ?can't be started", "无法启动"),
    (r" ?ended (in the middle of a line|before it had told everything)", "中途结束"),
    (r" ?ended with (-?\d+)", r"异常结束（\1）"),
    (r" ?a line is (not JSON|longer than \d+ bytes)| ?went on after its end", "应答有误"),
    (r" ?reported (a|places|numbers|something|more)( \w+)* (that|than)( \w+)+", "应答有误"),
    (r"(it|a file) can't be (read|opened)", "文件无法读取"),
    (r"it has (more than )?(\d+) bytes(, not \d+)?|its BLAKE3 is \w+, not \w+", "与采集时的内容不一致"),
    (r"No space left on device", "磁盘已满"),
    (r"Input/output error", "读写错误"),
    (r"Cannot allocate memory", "内存不足"),
    (r"(?<![A-Za-z ])video(?![A-Za-z ])", "画面"),
    (r"(?<![A-Za-z ])audio(?![A-Za-z ])", "声音"),
    # What hinders a docking or the station, whether footage is safe, and what to do.
    (r"^internal error$", "程序内部错误，已采集的资料安全，将自动重试"),
    (r"^storage is full; the footage stays on the recorder$", "本机存储空间不足，资料留在记录仪中"),
    (
        r"^something wrote to the recorder while it was read; it is read again$",
        "读取期间记录仪内容被改动，正在重新读取",
    ),
    (r"^(\d+) of (\d+) files can't be read completely$", r"\2 个文件中有 \1 个不能完整读取"),
    (
        r"^(\d+) files end earlier than the recorder says; what there is is safe$",
        r"\1 个文件比记录仪所述短，现有部分已安全采集",
    ),
    (
        r"^(\d+) files have another size than the recorder says; all that could be read is safe$",
        r"\1 个文件的大小与记录仪所述不符，能读取的部分已安全采集",
    ),
    # What hinders a device that is read by MTP.
    (r"^This recorder can't be read by MTP: ", "无法通过 MTP 读取此记录仪："),
    (r"^This recorder shows no storage\.|the device shows no storage", "设备未提供存储。"),
    (r"Unlock it, and choose file transfer \(MTP\) on its screen\.", "请解锁，并在屏幕上选择“文件传输（MTP）”。"),
    (r"the device (does not answer|takes no request|can't be read|is gone)(?=[:.]|$)", "设备没有应答"),
    (r"([/\da-zA-Z]+) can't be opened: ", r"无法打开 \1："),
    (r"the reading helper ?", "读取程序"),
    (r"it has no interface that speaks PTP or MTP", "设备没有 PTP 或 MTP 接口"),
    (r"a dataset ends too early", "设备的应答不完整"),
    (r"the device says that it sent (\d+) bytes, but (\d+) came", r"设备称发送 \1 字节，实收 \2 字节"),
    (r"the device answers to something that was asked before", "设备的应答与所问不符"),
    (r"the device sends (something else than a response|less than a header)", "设备的应答与所问不符"),
    (r"the device sends more of an object than its storage holds", "设备发送的文件大于其存储容量"),
    (r"the device goes on sending behind the end of an object", "文件结束后设备仍继续发送"),
    (r"the device tells something else of it than when it was listed", "设备所述与列出时不一致"),
    (r"it ends at byte (\d+), and had (\d+) when it was listed", r"在第 \1 字节处结束，列出时有 \2 字节"),
    (r"it goes on behind the (\d+) bytes that were listed", r"超出列出时的 \1 字节"),
    (r"\bbyte (\d+): ", r"第 \1 字节："),
    (r"more than (\d+) (objects|storages)", r"超过 \1 个"),
    (r"(\w+) was answered with 0x(\w+)", r"设备拒绝 \1（0x\2）"),
    (r"the device has not answered for ([\d.]+) s", r"设备 \1 秒没有应答"),
    (r"the device sends more than was asked of it by \w+", "设备发来的内容比要求的多"),
    (r"the device can't be claimed(: .*?)?(?=\.|$)", "设备正被其他程序占用"),
    (
        r"^parts of the recorder can't be read: there may be more on it$",
        "记录仪有一部分无法读取，其中可能还有资料",
    ),
    (r"^This recorder's filesystem can't be read: ", "无法读取此记录仪的文件系统："),
    (r"^This inbox can't be read: ", "无法读取此收件夹："),
    (r"^The reader of this recorder gave an impossible answer ", "读取此记录仪的程序应答有误"),
    (r"^The reader of this recorder( failed: it)?", "读取此记录仪的程序"),
    (r"^(.*): the recorder has no such place\.", r"记录仪中没有此位置：\1。"),
    (r"^This recorder was unplugged while it was listed: ", "列出时记录仪被拔出："),
    (r"Nothing was changed on it\.", "记录仪未作改动。"),
    (r"Dock it again\.", "请重新插入。"),
    (r"^Another recorder lies here than the one that was listed\.", "此处已不是先前列出的记录仪。"),
    (r"^Reading breaks at every file: ", "每个文件都读取中断："),
    (
        r"^This recorder is not in the inventory, and unknown ones are refused\.",
        "此记录仪未登记，按规定不采集未登记的设备。",
    ),
    (r"^Docking is noticed late, since udev can't be heard: ", "未能及时发现新插入的设备，仍在定期检查："),
    (r"^Recorders can't be detected: ", "无法发现新插入的记录仪："),
    (r"^(changed): ", "读取期间内容变化："),
    (r"^(unreadable|broken|different): ", "读取失败："),
    (r"^the agent was interrupted (\d+) times while storing this$", r"上传此文件时程序中断了 \1 次"),
    (r"Nothing was changed on (it|the recorder) and nothing was pulled\.", "未采集，记录仪未作改动。"),
    (r"Nothing was changed on the recorder; what was pulled before is safe\.", "记录仪未作改动，此前采集的资料安全。"),
    (r"[Nn]othing on the recorder was changed(?=[.;])", "记录仪未作改动"),
    (r"[Ww]hat was pulled( before)? is safe(?=[.;])", "已采集的资料安全"),
    (r"Nothing was (touched|changed)\.", "未作任何改动。"),
    (r"Nothing of it was pulled; all that is on it stays there\.", "未采集，资料留在记录仪中。"),
    (r"Keep the recorder( as it is, don't format it,)? and call the administrator\.", "请保留记录仪，联系管理员。"),
    (
        r"Dock it again; if it happens again, keep it and call the administrator\.",
        "请重新插入；如再次出现，请保留记录仪并联系管理员。",
    ),
    (r"It is tried again; if it goes on, call the administrator\.", "将自动重试；如持续出现，请联系管理员。"),
    (
        r"Call the administrator: once it is in inventory.toml it is read by itself\.",
        "请联系管理员登记，登记后自动采集。",
    ),
    (r"Leave it docked: it is read from the beginning\.", "请勿拔出，将从头读取。"),
    (r"It is tried again\.", "将自动重试。"),
    # What the station's own disk and journal refuse.
    (r"^The journal could not commit: ", "本机磁盘拒绝写入流转记录："),
    (r"^The journal \S+ can't be (?:read|used): ", "本机流转记录无法读取："),
    (r"^The journal is closed\.", "服务正在停止或重新启动。"),
    (r"^The (?:vault|station)'s disk refused [^:]*: ", "本机磁盘拒绝写入："),
    (r"^The vault's disk does not give back what was written: ", "本机磁盘读回的内容与写入的不一致："),
    (r"database or disk is full", "磁盘已满"),
    (r"disk I/O error", "读写错误"),
    (r"attempt to write a readonly database|Read-only file system", "磁盘只读"),
    (r"database disk image is malformed|file is not a database", "内容已损坏"),
    (r"Nothing of this call was written; what was committed before stays\.", "此次未写入，此前的记录都在。"),
    (
        r"Free space on the disk of the journal or check it; the agent tries again by itself\.",
        "请清理或检查磁盘，之后自动重试。",
    ),
    (r"Check the disk; `capture-agent verify` tells what is damaged\.", "请检查磁盘（capture-agent verify）。"),
    (r"Keep the recorder as it is until this is settled\.", "请保留记录仪，直到查明。"),
    (r"Have the administrator check the station's disk and its free space\.", "请联系管理员检查本机磁盘和剩余空间。"),
    # What is no longer so, or never was, of what somebody asked for.
    (r"^Recording \S+ is at version (\d+), not (\d+)\b.*", r"其间已有人填写（现为第 \1 版，不是第 \2 版）"),
    (r"^Of 1 to (\d+) recordings, not of (\d+)\.", r"一次填写须涉及 1 至 \1 个音像记录，现为 \2 个"),
    (
        r"^An activity lasts from arrival to departure and has 1 to (\d+) recordings\.",
        r"执法活动须有到达和离开时间，并包含 1 至 \1 个音像记录",
    ),
    (r"^A document is about 1 to (\d+) different recordings, not (\d+)\.", r"书面材料须涉及 1 至 \1 个音像记录"),
    (r"^There is no activity .*", "没有这次执法活动"),
    (r"^There is nothing of such a name\.", "没有叫这个名称的内容"),
    (
        r"^There is no (?:recording|document)\b.*|^\S+ is no recording\.|^Recording \S+ is unknown\.",
        "没有此音像记录或材料",
    ),
    (r"^Activity \S+ has \d+ explanations; .*", "其间已有人说明此执法活动的中断"),
    (r"^No docking has a receipt\.", "还没有交接回执"),
    (r"^The files of docking \S+ are not those .*", "本次采集的文件与交接回执所列不符，请勿清空记录仪"),
    (r"^\S.* is no time\.", "时间格式有误，应如 2026-11-20 16:30"),
    (r"^must be a time like \S+$", "时间格式有误，应如 2026-11-22T08:30"),
    (r"^must be a time in the years (\d+) to (\d+)$", r"时间须在 \1 年至 \2 年之间"),
    (r"^must be 1\.\.(\d+) characters on one line, without control characters$", r"须为一行，1 至 \1 字"),
    (r"; ", "；"),
    (r"(?<=[^\x00-\x7f]): ", "："),
)
_BEGINS_IN_CHINESE: Final = re.compile(r"[^A-Za-z]*[\u4e00-\u9fff]")
_TRACE: Final = "Traceback (most recent call last)"


def reason_words(reason: str) -> dict[str, str]:
    """A stored sentence in both languages; what nobody has a Chinese word for stays as it is."""
    chinese = reason
    for pattern, words_for_it in _SENTENCES:
        chinese = re.sub(pattern, words_for_it, chinese)
    return words(chinese, reason)


def in_chinese(text: str) -> str:
    """A text of the machine in Chinese, as far as there are words for it; empty if it doesn't begin with them."""
    found = reason_words(text)["zh"]
    return found if _BEGINS_IN_CHINESE.match(found) else ""


def on_screen(text: str) -> dict[str, str]:
    """A text of the machine as a screen shows it: Chinese first, whatever it says, and never a traceback."""
    if _TRACE in text:
        return words("程序内部错误，资料安全，请联系管理员", "internal error; footage is safe, call the administrator")
    told = reason_words(text)
    if not _BEGINS_IN_CHINESE.match(told["zh"]):
        told["zh"] = f"请联系管理员：{told['zh']}"
    return told


def both(told: dict[str, str]) -> str:
    """The same for a terminal, once if there is no Chinese."""
    return told["zh"] if told["zh"] == told["en"] else f"{told['zh']} ({told['en']})"
