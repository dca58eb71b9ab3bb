"""Strings that tokenizers trip over, and a small training corpus. All written for this project."""
import random

SENTENCES = {
    "latin": "The quick brown fox jumps over the lazy dog, doesn't it? I'll say we've won; they'd've lost!",
    "latin_ext": "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy. Hôm nay trời đẹp quá, phải không?",
    "german": "Falsches Üben von Xylophonmusik quält jeden größeren Zwerg. Straße, STRASSE, ẞ.",
    "turkish": "Iğdır'lı ıslak ördek İstanbul'a gitti; şimdi nerede?",
    "greek": "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί. Ὀδυσσεύς ἐστιν.",
    "cyrillic": "Съешь ещё этих мягких французских булок, да выпей чаю. Їжак ґречно з'їв яблуко.",
    "armenian": "Բարև, աշխարհ։ Ինչպե՞ս ես այսօր։",
    "georgian": "გამარჯობა მსოფლიო! როგორ ხარ დღეს?",
    "hebrew": "שלום עולם! מה שלומך היום? שָׁלוֹם עִם נִקּוּד.",
    "arabic": "مرحبا بالعالم، كيف حالك اليوم؟ السَّلَامُ عَلَيْكُمْ ١٢٣٤٥",
    "persian": "می‌خواهم به خانه بروم. ۱۲۳۴۵۶۷۸۹۰",
    "devanagari": "नमस्ते दुनिया, आप कैसे हैं? क्षत्रिय ज्ञान श्री १२३४५",
    "bengali": "ওহে বিশ্ব, তুমি কেমন আছো? ক্ষণিকের অতিথি",
    "tamil": "வணக்கம் உலகம், எப்படி இருக்கிறீர்கள்? ஸ்ரீ",
    "thai": "สวัสดีชาวโลก วันนี้เป็นอย่างไรบ้าง ๑๒๓๔",
    "tibetan": "བོད་སྐད་ཡིག་ནི་ཡག་པོ་རེད།",
    "khmer": "សួស្តីពិភពលោក",
    "myanmar": "မင်္ဂလာပါ ကမ္ဘာလောက",
    "ethiopic": "ሰላም ለዓለም፣ እንዴት ነህ?",
    "chinese": "你好,世界!今天天气怎么样?我想喝一杯茶。繁體中文也可以。",
    "japanese": "こんにちは世界。カタカナとひらがなと漢字を混ぜて書きます。ﾊﾝｶｸ ー々〆",
    "korean": "안녕하세요 세계! 오늘 날씨가 어떻습니까? ㅋㅋㅋ",
    "jamo": "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "mongolian": "ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ",
    "cherokee": "ᎣᏏᏲ ᎡᎶᎯ ꮳꮃꭹ",
    "gothic": "𐌲𐌿𐍄𐌹𐍃𐌺 𐍂𐌰𐌶𐌳𐌰",
    "math": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), 𝒜𝔅ℂ𝟘𝟙𝟚 ∑∏∫√∞ ½ ⅔ Ⅷ ⅳ ① ⑳",
}

EMOJI = [
    "😀", "😀😃😄😁", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷🇯🇵", "🇩", "❤️", "❤", "☺︎", "🧑🏿‍🚀 goes to 🌍", "1️⃣2️⃣3️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "👨‍💻👩🏻‍🔬", "text😀text", "😀 😀  😀", "‍", "🫠🫨🪿", "©️®️™️", "♀️♂️", "🦾🦿🧠🫀", "(づ｡◕‿‿◕｡)づ", "¯\\_(ツ)_/¯",
]

SPACES = [
    "", " ", "  ", "   ", "    ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r", " \n ", "\n \n", "\t \t", " \t\n\r\f\v ",
    "a  b", "a   b    c", "  lead", "trail  ", "   both   ", "a\n\nb", "a\n\n\n  b", "a \n b", "x\t\ty", "line one\nline two\n", "\n  indented\n    more\n",
    "a\u00a0b", "\u00a0\u00a0", "a\u2003b\u2009c", "\u3000全角\u3000", "a\u2028b\u2029c", "\u1680", "\u202f\u205f", "a\u0085b", " \u00a0 ", "a \u00a0b",
    "end.  Next", "end.\n", "end. \n\n", "!\n", "?!\n\n", "...\n\t", " " * 17, " " * 64 + "x", "\n" * 20, "\t" * 9 + "y", " a" * 12, "a " * 12,
    "\u2581", "\u2581a", "a\u2581b", " \u2581 ", "\u2581\u2581\u2581",
]

CONTROLS = [
    "\x00", "a\x00b", "\x00\x00\x00", "\x01\x02\x03", "\x07bell", "\x08\x0b\x0c", "\x1b[31mred\x1b[0m", "\x7f", "\x80\x9f", "a\x1fb", "\x1c\x1d\x1e\x1f",
    "\ufeffBOM", "\ufeff", "a\ufeffb", "\ufffd", "a\ufffdb\ufffd\ufffd", "\ufffe\uffff", "\U0010ffff", "\ue000\uf8ff", "\U000f0000\U00100000",
    "\u200b", "a\u200bb", "\u200c\u200d", "\u200e\u200f", "\u202ahi\u202c", "\u202eevil\u202c", "\u2060\u2061", "\u2066x\u2069", "\u00ad", "soft\u00adhyphen",
    "\u180e", "\u034f", "\ufe0f", "\U000e0001\U000e0020", "\u0378", "\u2fe0",
]

COMBINING = [
    "e\u0301", "\u00e9", "e\u0301\u0302\u0303", "Z\u0351\u036b\u0343a\u0321\u031bl\u0334g\u0321o\u0337", "\u0301", " \u0301", "a\u0301\n", "n\u0303o\u0303", "\u0915\u094d\u0937", "\u0e01\u0e33", "\u212b \u00c5 A\u030a",
    "\ufb01 \ufb02 \ufb03", "\u1e9b\u0323", "\uac00 \u1100\u1161", "o\u0308\u0304", "i\u0307\u0323", "\u0344", "\u1fbe\u037e\u2126", "\u0d4d\u0d4d", "a\u20dd",
    "1\u0301", "'\u0301s", "\u0958", "\u2adc", "\U0001d15e",
]

DIGITS = [
    "0", "1", "12", "123", "1234", "12345", "123456", "1234567", "1234567890", "00000000", "3.14159", "1,234,567.89", "-42", "+1 (555) 010-9999",
    "2026-11-24", "12:34:56.789", "0x1F", "1e-10", "1_000_000", "a1b2c3", "v1.2.3-rc4", "50%", "$99.99", "€5", "¥1000", "№5", "x²+y³", "H₂O", "٣٤٥", "१२३", "१२३४५६७", "𝟏𝟐𝟑𝟒", "１２３４", "Ⅳ", "¼½¾", "①②③④", "12 34", "1 2 3",
    "1st2nd3rd", "99bottles", "abc123def456", " 123", " 1234 ", "(1)", "[1,2,3]", "1.", ".5",
]

CONTRACTIONS = [
    "I'm you're he's we'd they'll I've don't", "I'M YOU'RE HE'S WE'D THEY'LL I'VE DON'T", "I'm I'M i'M", "it's It'S IT'S", "'s 't 're 've 'm 'll 'd", "'S 'T 'RE 'VE 'M 'LL 'D",
    "'tis 'twas", "rock'n'roll", "O'Brien's", "y'all'd've", "don’t I’m we’ll", "''s", "'", "''", "'''", "a'b", "'a", "a'", "'sx", "'rex", "l'été d'ici", "'ſ", "x'ſy", "HELLO'ſ", "5's", "1990's", "_'s",
]

MIXED = [
    "CamelCaseIdentifier snake_case kebab-case SCREAMING_SNAKE", "HTTPServerError2XMLParser", "aBcDeFgH", "ALL CAPS TEXT", "iPhone eBay McDonald", "ǅ ǈ ǋ", "ﬁNE ẞß", "Hello", " Hello", "hello", "HELLO", "hello world", "Hello, World!", "Hello,World",
    "hello-world", "hello_world", "hello/world", "hello.world", "a.b.c", "a,b", "a, b", "(a)", "[a]", "{a}", "<a>", "a+b=c", "a == b", "a != b && c || d", "!!!", "???", "...", "…", "—", "–", "---", "***bold***", "# Title", "## Sub\n", "- item\n- item", "> quote", "`code`", "```py\nx = 1\n```",
    "\"quoted\"", "“curly”", "«guillemets»", "„low“", "a\\nb", "\\", "\\\\", "/", "//", "@user #tag", "a&b", "&amp;", "~", "^", "|", "a|b", "$", "$$x$$", "%s %d", "{}", "{{x}}", "[[x]]", "<>", "=>", "->", "::", ";;", "\"", "\"\"\"",
]

CODE = [
    "int main() {\n  return 0;\n}\n", "def f(x):\n    return x ** 2  # square\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}", "SELECT * FROM users WHERE id = 42;", "<div class=\"x\">Hi &lt;b&gt;</div>", "{\"a\": [1, 2.5, null, true], \"b\": \"\\u00e9\"}", "if x:\n\tif y:\n\t\tpass\n\n\n", "x = lambda a, *b, **c: None", "#include <vector>\n#define X(a) #a##_b\n",
    "const f = async () => { await g?.(); };", "fn main() -> Result<(), Box<dyn Error>> {}", "$ ls -la | grep '^d' > out.txt 2>&1", "^\\s*(\\w+)\\s*=\\s*(.*)$", "        deep = indent", "a=1\n b=2\n  c=3\n   d=4", "\\begin{equation} e^{i\\pi}+1=0 \\end{equation}", "0b1010 0o17 0xdead_beef", "/* c */ // d", "<!-- note -->", "key: value\nlist:\n  - a\n  - b\n", "\t\tif\t(x)\t{", "}\n\n}\n", "):\n", "();\n\n",
]

URLS = [
    "https://example.com/a/b?c=d&e=f#g", "http://localhost:8080/", "www.example.org", "user.name+tag@example.co.uk", "ftp://ftp.example.net/file.tar.gz", "file:///etc/hosts", "C:\\Users\\x\\file.txt", "../../etc/passwd", "/usr/local/bin", "https://例え.jp/パス?q=値", "%E4%BD%A0%E5%A5%BD", "192.168.0.1:443", "[::1]:80", "data:text/plain;base64,SGVsbG8=", "urn:isbn:0451450523", "550e8400-e29b-41d4-a716-446655440000",
]

SPECIAL_LIKE = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_start|>user\nhi<|im_end|>", "a<|im_end|>b", " <|im_end|> ", "<|im_start|", "|im_end|>", "<|IM_END|>", "<| im_end |>", "<<|im_end|>>", "<|im_end|><|im_end|>", "<s>", "</s>", "<unk>", "<pad>", "<s>hello</s>", "[INST] hi [/INST]", "<<SYS>>", "<bos>", "<eos>", "<start_of_turn>user\n", "<end_of_turn>",
    "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>system<|end_header_id|>\n\n", "<tool_call>", "</tool_call>", "<think>\n", "[MASK]", "[CLS]", "[SEP]", "<0x0A>", "<0x00>", "<0xFF>", "<0xE2><0x96><0x81>", "<repo_name>", "<file_sep>", "<jupyter_code>", "<empty_output>", "<｜User｜>", "<|endoftext|", "x<s>y</s> z", " </s>", "</s> a", "\u2581<s>", "<s> <s>",
]


def long_repeats():
    return ["a" * 1000, "ab" * 500, "=" * 300, "-" * 257, "\u3042" * 300, "😀" * 200, " \n" * 150, "the " * 250, "1" * 400, "!" * 333, "aA" * 128, "ha" * 99 + "!", "\u0301" * 100, "." * 128 + "x", "0123456789" * 20, "_" * 100, "ьъ" * 100]


def random_strings(count=24):
    """Code points drawn from many ranges, mixed at random."""
    rng = random.Random(20261124)
    ranges = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x17F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0xE00, 0xFFF), (0x1E00, 0x206F), (0x2190, 0x2BFF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF), (0x9, 0xD), (0x20, 0x20)]
    out = []
    for _ in range(count):
        text = ""
        for _ in range(rng.randint(5, 60)):
            low, high = rng.choice(ranges)
            text += chr(rng.randint(low, high))
        out.append(text)
    return out


def all_strings():
    groups = list(SENTENCES.values()) + EMOJI + SPACES + CONTROLS + COMBINING + DIGITS + CONTRACTIONS + MIXED + CODE + URLS + SPECIAL_LIKE + long_repeats() + random_strings()
    mixed = [SENTENCES["latin"][:20] + SENTENCES["arabic"][:10] + SENTENCES["chinese"][:8] + "😀", "\n".join(list(SENTENCES.values())[:6]), "a\u0301 مرحبا 123 你好", "English עברית English", "abc\u200dअ\u094d"]
    return list(dict.fromkeys(groups + mixed))


STORY = """A wheel turned slowly in the valley, and the water that drove it came from a narrow jet high above. The miller's
daughter counted the turns: one, two, three, and so on until she reached 1024. "It doesn't stop," she said, "and it won't stop until the
snow is gone." Her brother wasn't sure. He'd measured the stream in 1998, in 2007 and again in 2026, and each year it had lost 3 or 4 percent.
They wrote the numbers in a table, one row for each year, and then they wrote a small program that read the table and printed what they'd
see in ten years' time. The program had a loop, a list and a function; it returned a number and a warning. In the evening they sat by the
fire and talked about the engineers who had built the wheel, the people who had carried the stones, and the children who would one day ask
what all of it had been for. "Water is patient," said the old woman next door, "but it is never idle." Nobody answered, for there was
nothing to add. Outside, the wheel went round and round, and the stars came out over the hills.
"""


def corpus():
    """Lines to train the tiny tokenizers on: English mostly, then a bit of everything."""
    lines = [line + "\n" for line in STORY.splitlines()] * 4
    lines += list(SENTENCES.values()) * 3
    lines += [c for c in CODE + CONTRACTIONS[:4] + URLS + MIXED if "\x00" not in c]
    lines += EMOJI[:12]
    return lines
