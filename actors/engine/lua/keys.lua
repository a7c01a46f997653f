-- Both scripts begin with their arguments, `ids` among them, and go on with this: keys, values, and who is first in a queue.
--
-- KEYS[1] is what all keys of a shard begin with. Redis Cluster finds the slot by it; whatever is made of it here has the
-- same hash tag and so the same slot. A key for each wallet and each queue, packed in Python and unpacked here, cost more
-- than all else that a script does.
--
-- The value of a lock is "owner:number/milliseconds". Beside it, for a moment only, stand the owners who missed it, with commas
-- between, in the order in which they came. Nobody goes before the first of them.
local keys, most = {}, 0
for id in string.gmatch(ids, '%d+') do most = most + 1; keys[most] = KEYS[1] .. id end
for i = 1, most do keys[most + i] = keys[i] .. ':next' end
local values = redis.call('MGET', unpack(keys))
local function first(queue) return string.match(queue, '^[^,]+') end
