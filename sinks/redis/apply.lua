-- Applies commands to the keys of one partition and moves its position: all of it, or nothing.
-- KEYS: fence, index of keys, then the keys that the commands are about.
-- ARGV: epoch, position, end, and the commands as JSON: lists of name, number of the key, arguments.
-- Returns 'ok', or what fence.lua, which comes before it, answers.
for _, command in ipairs(cjson.decode(ARGV[4])) do
  local name, key = command[1], KEYS[command[2]]
  if #command == 2 then redis.call(name, key) end
  for first = 3, #command, 4000 do
    redis.call(name, key, unpack(command, first, math.min(first + 3999, #command)))
  end
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
