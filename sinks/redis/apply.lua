-- Applies commands to the keys of one partition and moves its position: all of it, or nothing.
-- KEYS: fence, index of keys, then the keys that the commands are about.
-- ARGV: epoch, position, end; for each command: its name, the number of its key, the number of
--   arguments, the arguments.
-- Returns 'ok', 'done' (an earlier attempt did it), 'fenced' or 'rewound'.
local fence = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
local epoch, position = tonumber(fence[1]), fence[2]
local mine = tonumber(ARGV[1])
if epoch and epoch > mine then return 'fenced' end
if epoch ~= mine then return 'rewound' end
if position ~= ARGV[2] then
  if position == ARGV[3] then return 'done' end
  return 'rewound'
end
local at = 4
while at <= #ARGV do
  local name, key, count = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  at = at + 3
  if count == 0 then redis.call(name, key) end
  for first = at, at + count - 1, 4000 do
    redis.call(name, key, unpack(ARGV, first, math.min(first + 3999, at + count - 1)))
  end
  at = at + count
end
-- So that a topic made anew finds what the old one left.
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('ZADD', KEYS[2], 0, KEYS[i])
  else
    redis.call('ZREM', KEYS[2], KEYS[i])
  end
end
redis.call('HSET', KEYS[1], 'offset', ARGV[3])
return 'ok'
