-- Applies commands to the keys of one partition and moves its position: all of it, or nothing.
-- KEYS: fence, index of keys, then the keys that the commands are about.
-- ARGV: epoch, position, end; for each command: its name, the number of its key, the number of
--   arguments, the arguments.
-- Returns 'ok', or what fence.lua, which comes before it, answers.
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
