"""The tour in English: templates, nouns by number, and what each opcode does. zh.py has the same keys."""

from __future__ import annotations

NOUNS = {
    "byte": ("{} byte", "{} bytes"),
    "tensor": ("{} tensor", "{} tensors"),
    "file": ("{} file", "{} files"),
    "opcode": ("{} opcode", "{} opcodes"),
    "name": ("{} name", "{} names"),
    "part": ("{} part", "{} parts"),
    "element": ("{} element", "{} elements"),
    "parameter": ("{} parameter", "{} parameters"),
    "number": ("{} number", "{} numbers"),
}

TEXTS = {
    # ---- around it ----
    "space": " ",
    "size": "{exact} ({decimal}, {binary})",
    "more": "({n} more)",
    "no-name": "(no name)",
    "title": "{size:#size}",
    "intro": "A walk through this file from its first byte on; bytes are counted from 0. Every number below was read "
    "from the file or computed from it; nothing in the file was run.",
    "intro.several": "A walk through this model, file by file, from its first byte on; bytes are counted from 0. "
    "Every number below was read from the files or computed from them; nothing in them was run.",
    "part": "{part}. {title}",
    "outro": "Next:",
    "outro.show": "the values and statistics of one tensor",
    "outro.tree": "its modules",
    "outro.ls": "all tensors",
    "outro.capacity": "where every byte is",
    "outro.audit": "is it safe to load?",
    # ---- heads of tables ----
    "head.file": "file",
    "head.bytes": "bytes",
    "head.tensors": "tensors",
    "head.from": "from byte",
    "head.first-bytes": "begins with",
    "head.what": "what it is",
    "head.byte": "byte",
    "head.raw": "bytes in hex",
    "head.opcode": "opcode",
    "head.does": "what it does",
    "head.element": "element",
    "head.number": "number",
    "head.bits": "bits",
    "head.means": "what it says",
    "head.weight": "weight",
    "head.x": "x",
    "head.product": "product",
    "head.token": "token",
    "head.vector": "its row",
    "head.dtype": "type",
    "head.elements": "elements",
    "head.each": "bytes each",
    "head.module": "module",
    "head.share": "of the file",
    "head.meaning": "what it is for",
    "head.item": "what",
    "head.here": "here?",
    "head.why": "why",
    # ---- 1: the container ----
    "container.title": "The container: one file, many parts",
    "container.title.several": "The container: several files, and the parts in each",
    "container.none": "None of its files can be read.",
    "container.first": "Each piece in them is a checkpoint of its own. The first that can be read is looked into "
    "here: {file}, from byte {offset} on, {size:#size}.",
    "container.sharded": "The model is in {files:#file}, {size:#size} together.",
    "container.index": "Beside them is an index of {n:#byte}: a JSON text that says which tensor is in which file.",
    "container.distributed": "The model was saved by several processes, each of which wrote its own pieces: "
    "{files:#file}, {size:#size} together. The file .metadata beside them says which piece of which tensor lies where.",
    "container.deepspeed": "A training of DeepSpeed's saved it: {files:#file}, {size:#size} together. The model's "
    "weights are in one of them, the optimizer's numbers are dealt out over the others.",
    "container.zip": "Its first bytes are {head}: in ASCII PK, so it is a zip archive, as any other .zip. torch.save "
    "has written zips since version 1.6, whatever the ending of the name (.pth, .pt, .bin, .ckpt). Inside are "
    "{members:#part}: one pickle that says what there is, and a part of plain numbers for each storage.",
    "zip.headers": "Before each part stands a header like the first one.",
    "zip.stored": "The parts are not compressed.",
    "zip.deflated": "Of its parts {n} are compressed; torch writes them as they are, so another program made this "
    "zip, or a part of it.",
    "zip.deflated.others": "The numbers are not compressed; {n} of the other parts are.",
    "zip.padding": "Spare bytes bring the numbers to a round place, so that a program can use them where they lie, "
    "without a copy.",
    "zip.directory": "A zip is read from its end: the directory there says where each part begins.",
    "zip.torchscript": "TorchScript is a model with its program. The program is text here; nothing of it is run.",
    "container.torchscript": "Its first bytes are {head}: a zip archive, and the members in it say TorchScript. It "
    "holds {members:#part}: numbers, as in any checkpoint, and beside them the model's code, as text.",
    "container.pt2": "Its first bytes are {head}: a zip archive, written by torch.export. It holds {members:#part}: "
    "the graph of the model as JSON, and its weights as plain bytes.",
    "container.legacy": "It begins with {head}, and is no zip: it is a stream, as torch.save wrote it until version "
    "1.5. Five pickles follow each other, and behind them all numbers. There is no directory, so it has to be read "
    "from the front.",
    "container.legacy.note": "Before each storage stand eight bytes that say how many elements it has. Nothing is "
    "aligned and nothing has a checksum: reasons why the zip came after it.",
    "container.tar": "It is a tar archive, as torch.save wrote it up to version 0.1.9. A tar is made of blocks of 512 "
    "bytes: one with the name and the size of a member, then the member itself.",
    "container.safetensors": "It is a safetensors file, the simplest container of all: eight bytes that say how long "
    "the header is, the header, which is a JSON text, and then the tensors one behind the other. There is no pickle "
    "and no code in it.",
    "container.pickle": "It is one pickle and nothing else, as Python's pickle.dump writes it. The numbers of its "
    "tensors are inside of the pickle itself.",
    "container.package": "Its first bytes are {head}: a zip archive, written by torch.package. It holds "
    "{members:#part}: numbers, pickles, and the Python code of the model beside them. The code is text here; nothing "
    "of it is run.",
    "container.other": "Its first bytes are {head}.",
    "container.writer": "Written by: {writer} (inferred from such marks). The bytes of a number: {order}.",
    "order.little": "low byte first (little endian)",
    "order.big": "high byte first (big endian)",
    "files.error": "cannot be read",
    "region.zip-header": "header of the first part: {fixed} fixed bytes, its name ({size:#byte}), filling",
    "region.zip-pickle": "{name}: the pickle",
    "region.storage": "{name}: the numbers of a storage",
    "region.tensor": "the numbers of {name}",
    "region.code": "{name}: the model's code",
    "region.config": "{name}: names, types and shapes, as JSON",
    "region.member": "{name}",
    "region.zip-version": "{name}: the version of the layout",
    "region.zip-byteorder": "{name}: little or big",
    "region.zip-format-version": "{name}: another number of the layout",
    "region.zip-storage-alignment": "{name}: the round place that numbers begin at",
    "region.zip-serialization-id": "{name}: a number made of names and checksums",
    "region.zip-directory": "the directory: name, size, checksum and place of all {n:#part}",
    "region.zip-end": "the end records: where the directory is",
    "region.legacy-magic": "1st pickle: a magic number, the mark of torch.save",
    "region.legacy-version": "2nd pickle: the version, 1001",
    "region.legacy-sys_info": "3rd pickle: the machine that wrote it",
    "region.legacy-object": "4th pickle: what was saved, without its numbers",
    "region.legacy-storage_keys": "5th pickle: the order of the storages",
    "region.legacy-count": "how many elements follow",
    "region.tar-header": "the block before {name}: its name and size",
    "region.tar-sys_info": "{name}: the machine that wrote it",
    "region.tar-pickle": "{name}: what was saved, without its numbers",
    "region.tar-storages": "{name}: the numbers",
    "region.tar-tensors": "{name}: shape and place of each tensor",
    "region.safetensors-length": "the length of the header: {n}",
    "region.safetensors-header": "the header: name, type, shape and place of each tensor",
    "region.padding": "spaces that fill it up",
    "region.pickle": "the pickle",
    "region.trailing": "bytes behind it that belong to nothing",
    # ---- 2: the pickle ----
    "structure.title": "The pickle: a small program that builds the names",
    "structure.title.header": "The header: names, types and places as a JSON text",
    "structure.none": "No part of it can be read.",
    "structure.no-pickle": "There is no pickle in this file: names, types and shapes are in a JSON text, which can "
    "hold nothing but data.",
    "structure.nested": "Names, types and shapes are told by pickles of archives inside of this one, such as {member}"
    ": each is a checkpoint of its own, and reads as any other.",
    "structure.file": "the file itself",
    "structure.which.legacy": "the fourth of the five",
    "structure.which.tar": "the member of that name",
    "structure.at": "at byte {offset} of the file",
    "structure.inflated": "compressed in the file",
    "structure.pickle": "The pickle is {member} ({where}): {nbytes:#byte}, {n:#opcode}, protocol {protocol}. It is a "
    "program for a very small machine, which has a stack (a pile of values) and a memo (values to be used again). "
    "Most opcodes put something on the stack, or take something from it.",
    "structure.shown": "These are the first {shown:#opcode}. Bytes are counted from the beginning of the pickle.",
    "structure.shown.tensor": "These are the first {shown:#opcode}, up to the first tensor. Bytes are counted from "
    "the beginning of the pickle.",
    "structure.shown.apart": "These are the first {shown:#opcode}, and further down those of the first tensor. Bytes "
    "are counted from the beginning of the pickle.",
    "structure.together": "Read together: {name} is a tensor of type {dtype} and shape {shape}; its numbers are in "
    "storage {key}, from element {skip} on, with stride {stride}.",
    "structure.more": "{n} more follow, most of them the same again for the other tensors; the last one is STOP.",
    "structure.more.one": "One more follows: STOP.",
    "structure.danger": "The program holds {names:#name} of classes and functions (GLOBAL, or STACK_GLOBAL) and says: "
    "call this one (REDUCE). Python's own pickle would look up and call whatever is named, which is why a checkpoint "
    "from a stranger may be dangerous. pthparse reads the names as text and calls nothing.",
    "structure.harmless": "This one names no class and no function, so there is nothing in it that could be called. "
    "Others do, and Python's own pickle calls whatever is named: that is why a checkpoint from a stranger may be "
    "dangerous.",
    "structure.numbers": "Note what is not here: the numbers. The pickle says only in which storage they are.",
    "structure.header": "The first eight bytes are {raw}: as a number, low byte first, {n}. So many bytes of header "
    "follow ({json} of JSON text), for {tensors:#tensor}. It begins so:",
    "structure.header.note": "A name, and of each tensor its type (F32 is float32), its shape, and where it begins "
    "and ends, counted from the end of the header, which is byte {start} of the file. JSON is data and can call "
    "nothing: that is why this format was made.",
    "global": ": {what}",
    "global.OrderedDict": "a dict that keeps its order",
    "global._rebuild_tensor_v2": "what makes a tensor of a storage",
    "global._rebuild_tensor": "what makes a tensor of a storage",
    "global._rebuild_tensor_v3": "what makes a tensor of bytes",
    "global._rebuild_parameter": "what makes a parameter of a tensor",
    "global._rebuild_qtensor": "what makes a quantized tensor",
    "global._rebuild_sparse_tensor": "what makes a sparse tensor",
    "global.FloatStorage": "a storage of float32",
    "global.HalfStorage": "a storage of float16",
    "global.BFloat16Storage": "a storage of bfloat16",
    "global.DoubleStorage": "a storage of float64",
    "global.LongStorage": "a storage of int64",
    "global.IntStorage": "a storage of int32",
    "global.UntypedStorage": "a storage of bytes",
    # ---- 3: one tensor ----
    "tensor.title": "One tensor, from its name to its numbers",
    "tensor.none": "It has no tensor whose numbers could be shown one by one (there is none, or all are without data, "
    "sparse, nested or of a rare type).",
    "tensor.unreadable": "Its numbers cannot be read: {error}",
    "tensor.name": "The name is {name}. The file says of it: type {dtype}, shape {shape}, stride {stride}. That is "
    "{product} elements of {itemsize:#byte} each: {nbytes:#byte}.",
    "tensor.piece": "It is a piece: the tensor that it belongs to is made of several.",
    "tensor.member": "Its storage has the key {key}, so its bytes are in the part {member}.",
    "tensor.key": "Its storage has the key {key}.",
    "tensor.start": "The storage begins at byte {begin} of the file, and the tensor with its first element (storage "
    "offset {skip}).",
    "tensor.offset": "The storage begins at byte {begin} of the file. The tensor is a view that begins {skip:#element}"
    " later, at byte {first}.",
    "tensor.inflated": "The storage is compressed in the file, so its bytes have no place of their own there; here "
    "they are inflated.",
    "tensor.file": "The file is {file}.",
    "tensor.address": "The stride says how far it is to the next element along each axis. So element {index} is at "
    "{begin} + {itemsize} x ({steps}) = byte {at}.",
    "tensor.little": "The bytes of one number are stored with the low byte first (little endian): read them from "
    "right to left.",
    "tensor.big": "The bytes of one number are stored with the high byte first (big endian).",
    "tensor.integer": "The type is a whole number of {bits} bits: {itemsize:#byte} that are added up, each worth 256 "
    "times the one below it. There is no exponent.",
    "tensor.quantized": "It is quantized: each element is a small whole number that stands for (number - zero point) "
    "x scale. The first one: ({q} - {zero}) x {scale} = {value}.",
    "bits.split": "How do bytes become a number? Element {index}, {turned} with the high byte first, has {n} bits in "
    "three fields:",
    "bits.sign": "sign",
    "bits.exponent": "exponent",
    "bits.mantissa": "mantissa",
    "bits.sign.0": "0: positive",
    "bits.sign.1": "1: negative",
    "bits.exponent.means": "{exponent:d}, of which {bias:d} is taken off: 2^{power:d}",
    "bits.exponent.low": "{exponent:d}, a special case: 2^{power:d}",
    "bits.exponent.high": "{exponent:d}, all ones: a special case",
    "bits.mantissa.means": "{mantissa} / {scale}",
    "bits.normal": "The number is sign x 2^exponent x (1 + mantissa) = {product} = {value}.",
    "bits.subnormal": "An exponent of 0 means a tiny number without the leading 1: {product} = {value}.",
    "bits.zero": "All bits but the sign are 0: the number is {value}.",
    "bits.infinite": "An exponent of ones alone, and a mantissa of 0: the number is {value}, infinite.",
    "bits.nan": "An exponent of ones alone, and a mantissa that is not 0: it is no number (NaN).",
    # ---- 4: y = Wx + b ----
    "linear.title": "Weights and biases: y = Wx + b",
    "linear.none": "There is no linear layer to be seen in it: none of its float matrices ({n}) has a bias for each "
    "of its rows.",
    "linear.intro": "{weight} is a matrix W of shape {shape}, {bias} a vector b of {outputs:#number}. Such a layer "
    "takes {inputs:#number} x and makes {outputs:#number} y of them: y = Wx + b. Each row of W is for one of the "
    "numbers that come out.",
    "linear.intro.plain": "{weight} is a matrix W of shape {shape}. Such a layer takes {inputs:#number} x and makes "
    "{outputs:#number} y of them: y = Wx; it has no bias. Each row of W is for one of the numbers that come out.",
    "linear.basis.stated": "The file itself says that {module} is a linear layer.",
    "linear.basis.inferred": "That {module} is a linear layer is inferred from names and shapes: the file does not "
    "say it.",
    "linear.basis.shape": "That {module} is a linear layer is inferred from its shapes: the file does not say it.",
    "linear.count": "Weights: {outputs} x {inputs} = {numel}; biases: {outputs}; together {parameters:#parameter}.",
    "linear.count.plain": "Weights: {outputs} x {inputs} = {numel}.",
    "linear.x": "Let us take a simple x: ({x}), and 0 in the other {n} places, so that the other weights do not count.",
    "linear.x.all": "Let us take x = ({x}).",
    "linear.row": "The first number that comes out takes row 0 of W and the first number of b (rounded here to six "
    "digits):",
    "linear.row.plain": "The first number that comes out takes row 0 of W (rounded here to six digits):",
    "linear.sum": "y[0], the sum",
    "linear.rest": "The other numbers of y are made in the same way, each by its own row. Training is nothing but "
    "finding these numbers.",
    # ---- 5: the embedding ----
    "embedding.title": "The embedding: one row a token",
    "embedding.none": "No table of tokens is to be seen in it: no matrix has a name like embed.weight.",
    "embedding.intro": "{name} is a table: {vocabulary} rows, one for each token of the vocabulary, and {width}"
    " columns. A model for text never sees words; it sees the numbers of tokens, and token number i becomes row i, a "
    "vector of {width:#number}. To embed is to look up a row: no arithmetic at all.",
    "embedding.basis.name": "(Inferred from its name.)",
    "embedding.basis.inferred": "(Inferred from names and shapes.)",
    "embedding.basis.stated": "(The file itself says so.)",
    "embedding.row": "A row is {width} x {itemsize} = {row:#byte}, so the rows begin {row} bytes apart. Which word "
    "token 0 is, the file does not say: that is in the tokenizer.",
    "embedding.size": "Vocabulary x width: {product} parameters, {nbytes:#byte}, {share:#share} of the file.",
    "embedding.tied": "{output} is the same table under a second name (tied weights): the output layer looks at these "
    "very bytes, which are stored once.",
    "embedding.output": "At the other end of the model {output} does the reverse, and makes one number for each of "
    "the {vocabulary} tokens. So it is as large again: {n:#parameter}, {out:#share} of the file beside the "
    "embedding's {share:#share}.",
    # ---- 6: capacity ----
    "capacity.title": "How the size comes about",
    "sizes.parameters": "It has {parameters:#parameter}. Each takes as many bytes as its type says; elements x bytes "
    "each gives {tensors:#byte} of tensor data.",
    "sizes.parameters.one": "It has {parameters:#parameter}, all of type {dtype}, so each takes {each:#byte}: "
    "{parameters} x {each:d} = {tensors:#byte} of tensor data.",
    "sizes.elements": "It has {elements:#element}: {parameters:#parameter} of the model, and {buffers} of others, "
    "such as running means or an optimizer's. Each takes as many bytes as its type says; together {tensors:#byte} of "
    "tensor data.",
    "sizes.empty": "It has no tensors.",
    "sizes.half": "In float16 or bfloat16, at 2 bytes each, the same {parameters:#parameter} would take {half:#size}.",
    "sizes.differs": "stored in another size: compressed, shared, or made of others",
    "sizes.shares": "How they are spread over the model:",
    "sizes.whole": "The file has {file:#byte}. Each is counted once, by what it is for:",
    "sizes.else": "So all that is no tensor data takes {other:#byte}, {share:#share} of the file.",
    "sizes.unused": "{n:#byte} are in storages that no tensor looks at: a slice was saved together with all that it "
    "was cut from.",
    "ledger.tensor data": "tensor data",
    "ledger.tensor data.means": "elements of tensors, each once",
    "ledger.unused storage": "unused storage",
    "ledger.unused storage.means": "numbers that no tensor looks at",
    "ledger.pickle": "pickle",
    "ledger.pickle.means": "names, shapes, and what builds them",
    "ledger.names and headers": "names and headers",
    "ledger.names and headers.means": "what stands before and behind each part",
    "ledger.directory": "directory",
    "ledger.directory.means": "the list of the parts",
    "ledger.alignment padding": "alignment padding",
    "ledger.alignment padding.means": "filling, to bring parts to round places",
    "ledger.other members": "other members",
    "ledger.other members.means": "version, byte order and the like",
    "ledger.code": "code",
    "ledger.code.means": "of TorchScript, or a graph",
    "ledger.trailing": "trailing",
    "ledger.trailing.means": "bytes that belong to nothing",
    "ledger.sum": "sum",
    "ledger.sum.means": "the size of the file",
    "units.small": "{n:#byte} are too few for units to be confused.",
    "units.both": "A word on units: 1 {decimal} is {thousand} bytes, 1 {binary} is {two}, which is {more} % more. The "
    "same {n:#byte} are {d} {decimal} or {b} {binary}. Many programs show the one and write the other's name.",
    "units.rounding": "And on rounding: whoever takes {rounded} for {parameters} parameters, at {each} bytes each, is "
    "off by {lost:#byte}: {times} times as much as all that is not tensors ({other}). If a size does not add up, look "
    "at units and rounding first; it is not hidden structure.",
    # ---- 7: what is not there ----
    "absent.title": "What is not in it",
    "absent.intro": "A checkpoint is names and numbers. Much of what makes a model is elsewhere:",
    "absent.yes": "yes",
    "absent.no": "no",
    "absent.partly": "in part",
    "absent.numbers": "names, shapes, numbers",
    "absent.numbers.note": "{n:#tensor}",
    "absent.code": "code of the model",
    "absent.code.none": "how the numbers are used is in a Python program, which must build the same layers before it "
    "loads them",
    "absent.code.classes": "the names of its classes are here, and what they do is not: torch.load would import them",
    "absent.code.source": "old torch saved the source text of the classes along; it is text here, and is not run",
    "absent.code.script": "TorchScript: the program is in it, as text; it is not run here",
    "absent.code.graph": "the graph that torch.export made is in it; it is not run here",
    "absent.config": "settings of the layers",
    "absent.config.note": "the number of attention heads, dropout, activations: no shape shows them",
    "absent.config.whole": "attributes of the saved modules",
    "absent.gradients": "gradients",
    "absent.gradients.note": "they live for one step of training; torch.save of a state dict leaves them behind",
    "absent.gradients.yes": "{n:#tensor} with such a name: somebody saved them along",
    "absent.optimizer": "optimizer state",
    "absent.optimizer.yes": "{n:#tensor}, {size:#size}: needed to go on with training, not to use the model",
    "absent.optimizer.no": "so training cannot go on just where it ended; to use the model it is not needed",
    "absent.progress": "epoch, step, loss",
    "absent.progress.yes": "{values}",
    "absent.progress.no": "no plain numbers beside the tensors",
    "absent.tokenizer": "tokenizer, or labels",
    "absent.tokenizer.note": "which text is which token, or which class has which number, is in files of their own",
    "absent.data": "training data",
    "absent.data.note": "only what it left in the numbers",
    "absent.outro": "What there is, is what was learned: {n:#parameter}.",
    # ---- 8: several files ----
    "shards.title": "Why large models are in several files",
    "pieces.why": "A file of 100 GB is hard to send and to store: one bad byte spoils all of it, many servers do not "
    "cache a file of that size, and a program that reads it whole needs as much memory, or more. So large models are "
    "saved as several files (shards), each a whole checkpoint with some of the tensors.",
    "pieces.here": "This one is in {n:#file}: {size:#size} together, the largest has {largest:#byte}.",
    "pieces.fits": "This file has {size:#size}. Writers often allow {limit:#size} a file: it fits into one.",
    "pieces.large": "This file has {size:#size}. Writers often allow {limit:#size} a file: that would make about {n}.",
    "pieces.example": "Were the limit {limit:#byte}, its tensors would go into {n:#file}, in their order, each until "
    "the next one would not fit:",
    "pieces.never-cut": "A tensor is never cut: one that is above the limit gets a file of its own.",
    "pieces.merge": "The files need not be merged. An index says which name is in which file, and the model is all of "
    "them together. pthparse opens the directory, or the index, as one checkpoint: to list the names it reads the "
    "structure of each file, a few kB, and a tensor is read from its own file when it is asked for.",
    "pieces.one": "So {name} alone costs {nbytes:#byte} of {whole}, {share:#share}: the rest is not read, in one file "
    "or in many.",
}

OPCODES = {
    "MARK": "set a mark on the stack",
    "STOP": "done: what is on top is the result",
    "POP": "take one off the stack",
    "POP_MARK": "take off all down to the mark",
    "DUP": "put the top on the stack again",
    "FLOAT": "the number {argument}",
    "BINFLOAT": "the number {argument}",
    "INT": "the number {argument}",
    "BININT": "the number {argument}",
    "BININT1": "the number {argument}",
    "BININT2": "the number {argument}",
    "LONG": "the number {argument}",
    "LONG1": "the number {argument}",
    "LONG4": "the number {argument}",
    "NONE": "None",
    "NEWTRUE": "True",
    "NEWFALSE": "False",
    "PERSID": "something outside: {argument}",
    "BINPERSID": "what this tuple names outside of the pickle: a storage",
    "REDUCE": "call it with this tuple",
    "STRING": "the text '{argument}'",
    "BINSTRING": "the bytes {argument}",
    "SHORT_BINSTRING": "the bytes {argument}",
    "UNICODE": "the text '{argument}'",
    "BINUNICODE": "the text '{argument}'",
    "SHORT_BINUNICODE": "the text '{argument}'",
    "BINUNICODE8": "the text '{argument}'",
    "BINBYTES": "the bytes {argument}",
    "SHORT_BINBYTES": "the bytes {argument}",
    "BINBYTES8": "the bytes {argument}",
    "BYTEARRAY8": "the bytes {argument}",
    "EMPTY_LIST": "an empty list",
    "EMPTY_DICT": "an empty dict",
    "EMPTY_TUPLE": "an empty tuple",
    "EMPTY_SET": "an empty set",
    "APPEND": "put it into the list",
    "APPENDS": "put all since the mark into the list",
    "LIST": "make a list of all since the mark",
    "DICT": "make a dict of all since the mark",
    "SETITEM": "put key and value into the dict",
    "SETITEMS": "put all since the mark into the dict",
    "ADDITEMS": "put all since the mark into the set",
    "FROZENSET": "make a set of all since the mark",
    "TUPLE": "make a tuple of all since the mark",
    "TUPLE1": "make a tuple of the top one",
    "TUPLE2": "make a tuple of the top two",
    "TUPLE3": "make a tuple of the top three",
    "BUILD": "give the object its state",
    "GLOBAL": "the name {argument}",
    "STACK_GLOBAL": "the name that these two texts make",
    "INST": "an object of {argument}",
    "OBJ": "an object of this class",
    "NEWOBJ": "an object of this class",
    "NEWOBJ_EX": "an object of this class",
    "GET": "number {argument} of the memo",
    "BINGET": "number {argument} of the memo",
    "LONG_BINGET": "number {argument} of the memo",
    "PUT": "remember it as number {argument}",
    "BINPUT": "remember it as number {argument}",
    "LONG_BINPUT": "remember it as number {argument}",
    "MEMOIZE": "remember it as the next number",
    "PROTO": "this is protocol {argument}",
    "FRAME": "the next {argument} bytes belong together",
    "EXT1": "registered name {argument}",
    "EXT2": "registered name {argument}",
    "EXT4": "registered name {argument}",
    "NEXT_BUFFER": "a buffer from outside",
    "READONLY_BUFFER": "a buffer that may not be changed",
}
