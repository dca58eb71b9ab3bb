"""The fixed text and the prompts for the SmolLM2 goldens. All written for this project."""

FIXED_TEXT = """The town of Arlen stands where two rivers meet, and for most of its history the people who lived there could not agree on
which of the two was the more important. The northern river is wide and slow. Barges come down it with grain in the autumn and with timber in
the spring, and its banks are lined with warehouses built of yellow brick. The southern river is narrow, cold and quick. It falls more than forty
metres in its last two kilometres, and nothing larger than a canoe has ever been seen on it. But it was the southern river that turned the mills.

In the year 1741 a carpenter named Ilse Brandt measured the flow of the southern river with a wooden float, a length of rope and a pocket watch. She
wrote down the time that the float took to pass between two posts, one hundred and twenty times in all, and worked out an average. Her notebook,
which is kept in the town hall, shows that she was careful: where the float had caught on a stone, she crossed out the figure and noted the
reason. From these figures she decided how large a wheel the river could drive. The wheel she built had thirty-two buckets and was five metres high. It
ran for ninety-three years.

What made her wheel better than the older ones was a small change. In the old mills, water poured onto the wheel from above and struck the buckets at an
angle, so that much of it splashed away without doing any work. Brandt split the stream in two with a sharp wooden wedge and curved each bucket so
that the water entered smoothly, turned around, and left with hardly any speed at all. "Water that runs away fast," she wrote, "has kept for itself what
it should have given to the wheel." Engineers who read her notes a century later were surprised to find the idea stated so plainly.

Today the mills are gone, but the town still uses the river. A turbine the size of a kitchen table sits in a concrete house below the bridge and
supplies power to about six hundred homes. Children from the school visit it every year. They are shown three things: the place where the water comes in, the
place where it goes out, and a dial that tells how much power is being made. Then the guide asks them a question: if the water comes in fast and
goes out slowly, where did the speed go? Most of them point at the dial.

There is a second lesson, which the guide leaves for the older pupils. The turbine does not work alone. When one home needs more power, another needs
less, and the sum of all of them changes much more slowly than any single one. A machine that served one house would have to start and stop
all day long; a machine that serves six hundred can turn at a steady pace. The engineers call this diversity. The old millers, who shared one
wheel among a dozen families, had a shorter word for it. They called it sense.

The wheel itself can still be seen. When the last mill closed, the wheel was taken apart and its buckets were sold, one by one, to pay for the
roof of the school. In the years that followed they turned up all over the valley: as flower boxes, as a trough for horses, as the seat of a swing. Then,
some thirty years ago, a teacher of mathematics asked her class to find them all. It took the class two winters. They drew a map, wrote letters,
knocked on doors, and crossed off each bucket as they found it. Thirty of the thirty-two were found. One of the missing two had been
burnt for firewood in a hard winter. The other, people say, is at the bottom of the northern river, where a boy lost it while using it as a boat.

The thirty buckets now hang in a ring in the hall of the school, with two gaps between them. Every few years somebody offers to carve the missing
pieces, and every time the pupils vote against it. They like the gaps. A ring without gaps, they say, would be a thing to look at; a ring with two
gaps is a thing to talk about. And so each new class hears about the carpenter and her pocket watch, about the hard winter, and about
the boy who went to sea in a bucket and came home on foot, wet to the neck and very proud, because he had travelled farther down the river
than anybody in his family had ever done before.

On the wall beneath the ring there is a brass plate with a single line, taken from the last page of the notebook. Visitors expect something grand, and
some of them are a little disappointed when they bend down to read it. It says: "Measured again today. The same as yesterday. Good." The
mathematics teacher, who chose it, has never explained why. But her pupils, who measure the flow of the southern river every spring with a wooden
float, a length of rope and a watch, have no need of an explanation. They write down their own figures under last year's, draw a line, and
go home. There are more than forty lines on the page by now. Most of them end in the same word.
"""

CHAT = [
    "What is the capital of France?",
    "Write a short poem about a river.",
    "Explain in two sentences what a water wheel does.",
    "List three fruits and their colours.",
    "How do I reverse a list in Python?",
    "Translate 'good morning' into Spanish.",
    "What is 7 times 8?",
    "Tell me a story about a fox who learned to swim.",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "Who are you?",
    "Summarise: The meeting was moved from Monday to Thursday because the room was being painted.",
]
RAW = [
    "Once upon a time, in a small village by the sea,",
    "The three laws of motion are",
    "def fibonacci(n):\n",
    "The quick brown fox",
    "In 1969, the first humans",
    "To make a cup of tea, you need",
    "1, 2, 3, 4, 5,",
    "Water boils at",
]


def chatml(question):
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
