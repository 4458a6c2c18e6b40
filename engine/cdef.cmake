# Writes a Lua file that returns the header's declarations as one string.
execute_process(COMMAND ${CC} -E -P -DVESTIGE_CDEF ${HEADER} OUTPUT_VARIABLE text
                COMMAND_ERROR_IS_FATAL ANY)
file(WRITE ${OUT} "return [==[\n${text}]==]\n")
